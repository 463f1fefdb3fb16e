"""Probabilistic knowledge transfer: the same neighbours with the same probabilities."""

from __future__ import annotations

import torch
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss, LossNeed

# Of the authors' code: added to norms, and to probabilities inside the logarithm.
EPS = 1e-7


def pkt(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Divergence between the neighbourhoods of each sample under teacher and student.

    A neighbourhood is the row of cosine similarities to all samples of the batch, itself included, shifted to [0, 1]
    and scaled to sum 1. The mean over the batch is the published mean over B^2 of p_t log(p_t / p_s).

    Args: student_features [B, D], teacher_features [B, E], pooled.
    Returns: loss [B], the share of each sample's row.
    Source: Passalis & Tefas, ECCV 2018, and their code.
    """
    student, teacher = _neighbourhoods(student_features), _neighbourhoods(teacher_features.detach())
    return (teacher * ((teacher + EPS) / (student + EPS)).log()).mean(dim=1)


def _neighbourhoods(features: Tensor) -> Tensor:
    """[B, D] -> probabilities [B, B], rows that sum to 1."""
    unit = features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + EPS)
    similarities = (unit @ unit.T + 1) / 2
    probabilities: Tensor = similarities / similarities.sum(dim=1, keepdim=True)
    return probabilities


@LOSSES.register(
    "pkt",
    source="Passalis & Tefas, ECCV 2018",
    needs=[LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES],
    usual={"ce_weight": 1.0, "kd_weight": 30_000.0},
)
def build_pkt() -> Loss:
    """Probabilities of being neighbours in the batch, by pooled features."""

    def loss(
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_features: Tensor,
        teacher_features: Tensor,
    ) -> Tensor:
        return pkt(student_features, teacher_features)

    return loss  # type: ignore[return-value]
