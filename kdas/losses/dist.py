"""DIST: the student's predictions correlate with the teacher's, over the classes and over the samples."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss

# Added to the product of the norms, as in the official code.
CORRELATION_EPS = 1e-8


def dist(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """One minus Pearson's correlation of the softened predictions, times the squared temperature.

    Each sample gets `beta` times its own term, over the classes, and `gamma` times the mean over the classes of the
    term over the samples. The latter relates classes, so all samples have the same share of it.

    Args: student_logits, teacher_logits [B, C], raw; beta: weight over the classes (inter-class in the paper); gamma:
        weight over the samples (intra-class).
    Returns: loss [B]; a sample's value depends on its batch.
    Source: Huang et al., NeurIPS 2022; official code.
    """
    student = (student_logits / temperature).softmax(dim=1)
    teacher = (teacher_logits.detach() / temperature).softmax(dim=1)
    over_classes = 1 - _correlation(student, teacher)
    over_samples = (1 - _correlation(student.T, teacher.T)).mean()
    # T**2 undoes the 1/T**2 by which softening shrinks gradients.
    return temperature**2 * (beta * over_classes + gamma * over_samples)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation of each row [M]. Args: first, second [M, N]."""
    first, second = first - first.mean(dim=1, keepdim=True), second - second.mean(dim=1, keepdim=True)
    norms: Tensor = first.norm(dim=1) * second.norm(dim=1)
    return (first * second).sum(dim=1) / (norms + CORRELATION_EPS)


@LOSSES.register("dist", source="Huang et al., NeurIPS 2022 (DIST)", usual={"ce_weight": 1.0, "kd_weight": 1.0})
def build_dist(
    *,
    beta: Annotated[
        float,
        Field(ge=0, le=1_000_000, description="Weight over the classes; the paper uses 2 on CIFAR, 1 on ImageNet."),
    ] = 2.0,
    gamma: Annotated[
        float,
        Field(ge=0, le=1_000_000, description="Weight over the samples; the paper uses 2 on CIFAR, 1 on ImageNet."),
    ] = 2.0,
    temperature: Annotated[
        float,
        Field(gt=0, le=1000, description="Distillation temperature; the paper uses 4 on CIFAR, 1 on ImageNet."),
    ] = 4.0,
) -> Loss:
    """Correlation of the softened predictions, over the classes of a sample and over the samples of a class."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return dist(student_logits, teacher_logits, beta, gamma, temperature)

    return loss
