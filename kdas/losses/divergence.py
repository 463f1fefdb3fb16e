"""Hinton's distillation loss, with a choice of divergences."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss

Direction = Literal["forward", "reverse", "js", "tvd"]
Temperature = Annotated[float, Field(gt=0, le=1000, description="Distillation temperature; the paper uses 4.")]
Standardize = Annotated[bool, Field(description="Whether to z-score both logits of each sample first.")]
# Added to the standard deviation of the logits, as in the official code of Sun et al.
STANDARDIZE_EPS = 1e-7


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) per row. Args: log_p, log_q [B, C], log-probabilities. Returns: [B], in nats."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)


def standardized(logits: Tensor) -> Tensor:
    """Logits with zero mean and unit sample deviation per row. Source: Sun et al., CVPR 2024 (LogitSTD)."""
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + STANDARDIZE_EPS)


def divergence(log_teacher: Tensor, log_student: Tensor, direction: Direction) -> Tensor:
    """How far two distributions are apart, per row.

    Args: log_teacher, log_student [B, C], log-probabilities; direction: `forward` is KL(teacher || student), `reverse`
        is KL(student || teacher), `js` is the mean of both distributions' KL to their mixture, `tvd` is half of the
        summed absolute differences.
    Returns: [B]; KL and JS in nats, TVD in [0, 1].
    Source: Wen et al., ACL 2023, for the last two in distillation.
    """
    match direction:
        case "forward":
            return kl_divergence(log_teacher, log_student)
        case "reverse":
            return kl_divergence(log_student, log_teacher)
        case "js":
            log_mixture = torch.logaddexp(log_teacher, log_student) - math.log(2)
            return (kl_divergence(log_teacher, log_mixture) + kl_divergence(log_student, log_mixture)) / 2
        case "tvd":
            return (log_teacher.exp() - log_student.exp()).abs().sum(dim=1) / 2


def kd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor,
    direction: Direction = "forward",
    standardize: bool = False,
) -> Tensor:
    """Divergence of the softened predictions, times the squared temperature.

    Args: student_logits, teacher_logits [B, C], raw; temperature: a number, or a tensor [1] that is learned; direction:
        as for `divergence`: `forward` as published, `reverse` as the official KDAS release computes it.
    Returns: loss [B].
    Source: Hinton et al., 2015.
    """
    teacher_logits = teacher_logits.detach()
    if standardize:
        student_logits, teacher_logits = standardized(student_logits), standardized(teacher_logits)
    log_student = (student_logits / temperature).log_softmax(dim=1)
    log_teacher = (teacher_logits / temperature).log_softmax(dim=1)
    # T**2 undoes the 1/T**2 by which softening shrinks gradients.
    return temperature**2 * divergence(log_teacher, log_student, direction)


@LOSSES.register(
    "kd",
    source="Hinton et al., 2015; standardize: Sun et al., CVPR 2024",
    usual={"ce_weight": 0.1, "kd_weight": 9.0},
)
def build_kd(
    *,
    temperature: Temperature = 4.0,
    direction: Annotated[
        Direction,
        Field(
            description="Divergence: forward is KL(teacher || student), reverse is KL(student || teacher), js is"
            " Jensen-Shannon, tvd is total variation; the official release uses reverse."
        ),
    ] = "forward",
    standardize: Standardize = False,
) -> Loss:
    """Divergence of the softened predictions of teacher and student."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return kd(student_logits, teacher_logits, temperature, direction, standardize)

    return loss
