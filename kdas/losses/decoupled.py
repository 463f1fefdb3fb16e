"""Decoupled distillation: separate weights for the target class and for the other classes."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdas.losses.divergence import Standardize, Temperature, kl_divergence, standardized
from kdas.losses.interface import LOSSES, Loss, LossNeed


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    targets: Tensor,
    alpha: float,
    beta: float,
    temperature: float,
    standardize: bool = False,
) -> Tensor:
    """`alpha` times the divergence of target against rest, plus `beta` times the divergence among the rest.

    Args: student_logits, teacher_logits [B, C], raw; targets [B].
    Returns: loss [B].
    Source: Zhao et al., CVPR 2022; both divergences are KL(teacher || student) times the squared temperature.
    """
    teacher_logits = teacher_logits.detach()
    if standardize:
        student_logits, teacher_logits = standardized(student_logits), standardized(teacher_logits)
    student_binary, student_rest = _decoupled(student_logits / temperature, targets)
    teacher_binary, teacher_rest = _decoupled(teacher_logits / temperature, targets)
    about_target = kl_divergence(teacher_binary, student_binary)
    among_rest = kl_divergence(teacher_rest, student_rest)
    return temperature**2 * (alpha * about_target + beta * among_rest)


def _decoupled(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of target and rest [B, 2], and of each other class given that it is not the target [B, C-1]."""
    number = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = logits.gather(1, number + (number >= targets[:, None]))
    at_target = logits.gather(1, targets[:, None]).squeeze(1)
    binary = torch.stack([at_target, others.logsumexp(dim=1)], dim=1)
    return binary.log_softmax(dim=1), others.log_softmax(dim=1)


@LOSSES.register(
    "dkd",
    source="Zhao et al., CVPR 2022; standardize: Sun et al., CVPR 2024",
    needs=[LossNeed.EPOCH],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
def build_dkd(
    *,
    alpha: Annotated[
        float, Field(ge=0, le=1_000_000, description="Weight of the target-class term; the paper uses 1.")
    ] = 1.0,
    beta: Annotated[
        float,
        Field(
            ge=0,
            le=1_000_000,
            description="Weight of the non-target term; the paper uses 8, 6 or 2, depending on the pair.",
        ),
    ] = 8.0,
    temperature: Temperature = 4.0,
    standardize: Standardize = False,
    warmup_epochs: Annotated[int, Field(ge=0, le=1_000_000, description="Epochs over which the term ramps up.")] = 20,
) -> Loss:
    """Decoupled distillation: weights what the teacher says about the target and about other classes separately."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, epoch: int) -> Tensor:
        ramp = min(epoch / warmup_epochs, 1.0) if warmup_epochs else 1.0
        return ramp * dkd(student_logits, teacher_logits, targets, alpha, beta, temperature, standardize)

    return loss  # type: ignore[return-value]
