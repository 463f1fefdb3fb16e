"""Multi-level logit distillation: predictions, their relations between samples, and those between classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from kdas.losses.divergence import Standardize, Temperature, kd
from kdas.losses.interface import LOSSES, Loss, LossNeed

# Predictions are compared at these temperatures beside the given one, in the order of the official code.
MORE_TEMPERATURES = (3.0, 5.0, 2.0, 6.0)


def class_correlation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float, of_class: Tensor | None = None
) -> Tensor:
    """Squared difference of the class correlation matrices P^T P, over the number of classes.

    Args: student_logits, teacher_logits [B, C], raw; of_class [C]: weights of the classes, all 1 by default.
    Returns: loss [B]; it relates classes, so all samples have the same share.
    Source: Jin et al., CVPR 2023; official code, `cc_loss`.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    rows = (student.T @ student - teacher.T @ teacher).square().sum(dim=1)
    return (rows if of_class is None else of_class * rows).mean().expand(len(student))


def batch_correlation(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """Each sample's row of the squared difference of the batch correlation matrices P P^T.

    Args: student_logits, teacher_logits [B, C], raw.
    Returns: loss [B]; a sample's value depends on its batch.
    Source: Jin et al., CVPR 2023; official code, `bc_loss`.
    """
    student, teacher = _softened(student_logits, teacher_logits, temperature)
    return (student @ student.T - teacher @ teacher.T).square().sum(dim=1)


def _softened(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    return (student_logits / temperature).softmax(dim=1), (teacher_logits.detach() / temperature).softmax(dim=1)


def low_confidence(confidence: Tensor) -> Tensor:
    """1 for the half that is at most the median, 0 for the others. Args: confidence [N]. Returns: [N]."""
    return (confidence <= confidence.median()).to(confidence.dtype)


def levels(
    student_logits: Tensor,
    teacher_logits: Tensor,
    student_strong_logits: Tensor,
    teacher_strong_logits: Tensor,
    temperature: float = 4.0,
    standardize: bool = False,
    released_sum: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms about samples, batch and classes, each summed over two views and all temperatures.

    On the weak view only the samples that the teacher is less confident of count, and among the classes those with
    less of its probability. On the strong view all count, but between samples again only the same ones.

    Args: student_logits, teacher_logits [B, C], raw, of the weak view; the `strong` ones [B, C] of a strongly augmented
        view of the same images; temperature: one of five, beside 2, 3, 5 and 6; standardize: z-score the logits of the
        first term (Sun et al., CVPR 2024); released_sum: what the official code sums up. It weights the weak view by
        the share of confident samples or classes rather than choosing them, takes logits of the weak view for the
        strong one at temperatures 2 and 6, and leaves out the strong view between samples and classes.
    Returns: three losses [B].
    Source: Jin et al., CVPR 2023; official code.
    """
    temperatures = (temperature, *MORE_TEMPERATURES)
    weak, strong = (student_logits, teacher_logits), (student_strong_logits, teacher_strong_logits)
    confidence = teacher_logits.detach().softmax(dim=1)
    of_sample, of_class = low_confidence(confidence.amax(dim=1)), low_confidence(confidence.sum(dim=0))
    if released_sum:
        of_sample, of_class = (each.mean().expand_as(each) for each in (of_sample, of_class))
    of_samples = of_sample * _total(kd(*weak, t, standardize=standardize) for t in temperatures)
    of_batch = of_sample * _total(batch_correlation(*weak, t) for t in temperatures)
    of_classes = _total(class_correlation(*weak, t, of_class) for t in temperatures)
    if released_sum:
        views = ((strong, temperatures[:3]), (weak, temperatures[3:]))
        of_samples = of_samples + _total(kd(*view, t, standardize=standardize) for view, some in views for t in some)
    else:
        of_samples = of_samples + _total(kd(*strong, t, standardize=standardize) for t in temperatures)
        of_batch = of_batch + of_sample * _total(batch_correlation(*strong, t) for t in temperatures)
        of_classes = of_classes + _total(class_correlation(*strong, t) for t in temperatures)
    return of_samples, of_batch, of_classes


def _total(losses: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(losses)).sum(dim=0)


@LOSSES.register(
    "mlkd",
    source="Jin et al., CVPR 2023; standardize: Sun et al., CVPR 2024",
    needs=[LossNeed.STRONG_VIEW],
    usual={"ce_weight": 0.1, "kd_weight": 9.0},
)
def build_mlkd(
    *,
    temperature: Temperature = 4.0,
    standardize: Standardize = False,
    released_sum: Annotated[
        bool,
        Field(description="Whether to sum what the official code sums, with its slips; docs/losses.md lists them."),
    ] = False,
    strong_ce_weight: Annotated[
        float,
        Field(
            ge=0,
            le=1_000_000,
            description="Weight of the cross-entropy on the strong view; kd_weight multiplies it. The paper's product"
            " is 0.1.",
        ),
    ] = 0.1 / 9,
) -> Loss:
    """Multi-level: predictions, their relations between samples and between classes, on a weak and a strong view."""

    def loss(
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_strong_logits: Tensor,
        teacher_strong_logits: Tensor,
    ) -> Tensor:
        views = (student_logits, teacher_logits, student_strong_logits, teacher_strong_logits)
        label_loss = functional.cross_entropy(student_strong_logits, targets, reduction="none")
        return _total(levels(*views, temperature, standardize, released_sum)) + strong_ce_weight * label_loss

    return loss  # type: ignore[return-value]
