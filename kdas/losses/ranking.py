"""List-wise distillation: the student learns the teacher's order of the classes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss


def pld(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Weighted negative log-likelihood of one ranking: the label first, then the classes as the teacher orders them.

    The ranking is a chain of choices, each among the classes not yet chosen. A choice is weighted by the teacher's
    probability of the chosen class. The first choice alone is the cross-entropy on the label.

    Args: student_logits, teacher_logits [B, C], raw; targets [B]; temperature: of the teacher's probabilities.
    Returns: loss [B].
    Source: Bassam et al., 2025 (arXiv 2506.12542).
    """
    teacher_logits = teacher_logits.detach()
    ranked_first = torch.zeros_like(teacher_logits).scatter_(1, targets[:, None], torch.inf)
    ranking = (teacher_logits + ranked_first).argsort(dim=1, descending=True, stable=True)
    chosen = student_logits.gather(1, ranking)
    left_to_choose_from = chosen.flip(1).logcumsumexp(dim=1).flip(1)
    belief = (teacher_logits / temperature).softmax(dim=1).gather(1, ranking)
    return (belief * (left_to_choose_from - chosen)).sum(dim=1)


@LOSSES.register("pld", source="Bassam et al., 2025 (arXiv 2506.12542)", usual={"ce_weight": 0.0, "kd_weight": 1.0})
def build_pld(
    *,
    temperature: Annotated[
        float, Field(gt=0, le=1000, description="Temperature of the teacher's distribution; the paper uses 1.")
    ] = 1.0,
) -> Loss:
    """Plackett-Luce distillation: the label first, then the teacher's ranking of classes; needs no cross-entropy."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return pld(student_logits, teacher_logits, targets, temperature)

    return loss
