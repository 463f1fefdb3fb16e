"""Relational distillation: distances and angles between the samples of a batch."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from kdas.losses.interface import LOSSES, Loss, LossNeed

# Lower bound of squared distances, as in the authors' code: keeps the gradient of the root finite.
EPS = 1e-12


def rkd(
    student_features: Tensor, teacher_features: Tensor, distance_weight: float = 25, angle_weight: float = 50
) -> Tensor:
    """Smooth l1 differences of distances, over their mean, and of the cosines of angles.

    Args: student_features [B, D], teacher_features [B, E], pooled; distance_weight of distances; angle_weight of
        the angles at a sample between any two others.
    Returns: loss [B], the share of each sample as the anchor.
    Source: Park et al., CVPR 2019. A pair of one sample with itself has distance 0 and cosine 0 and counts in means
        over B^2 and B^3, as in their code.
    """
    teacher_squared = _squared_distances(teacher_features.detach())
    student_squared = _squared_distances(student_features)
    distances = functional.smooth_l1_loss(
        _relative_distances(student_squared), _relative_distances(teacher_squared), reduction="none"
    )
    angles = functional.smooth_l1_loss(_cosines(student_squared), _cosines(teacher_squared), reduction="none")
    return distance_weight * distances.mean(dim=1) + angle_weight * angles.mean(dim=(1, 2))


def _squared_distances(features: Tensor) -> Tensor:
    """[B, D] -> [B, B], with a diagonal of exact zeros; rounding may leave tiny negative values elsewhere."""
    # Distances stay, and lose fewer digits to cancellation when the features share no large offset.
    centred = features - features.mean(dim=0)
    products = centred @ centred.T
    squares = products.diagonal()
    return squares[:, None] + squares - 2 * products


def _relative_distances(squared: Tensor) -> Tensor:
    """Distances [B, B] over the mean distance of two different samples. Args: squared [B, B], with zero diagonal."""
    num_samples = len(squared)
    others = ~torch.eye(num_samples, dtype=torch.bool, device=squared.device)
    distances = squared.clamp(min=EPS).sqrt() * others
    mean = distances.sum() / max(num_samples * (num_samples - 1), 1)
    return distances / mean.clamp(min=EPS)


def _cosines(squared: Tensor) -> Tensor:
    """Cosine [B, B, B] of the angle at the first sample between the other two; 0 where one of them coincides with it.

    By the law of cosines, so that no difference vectors [B, B, D] are needed.
    Args: squared [B, B], squared distances with zero diagonal.
    """
    apart = squared > EPS**2
    inverse = squared.where(apart, 1).rsqrt() * apart
    products = (squared[:, :, None] + squared[:, None, :] - squared) / 2
    # Rounding could leave any value for two samples that almost coincide.
    return (products * inverse[:, :, None] * inverse[:, None, :]).clamp(-1, 1)


@LOSSES.register(
    "rkd",
    source="Park et al., CVPR 2019",
    needs=[LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
def build_rkd(
    *,
    distance_weight: Annotated[
        float, Field(ge=0, le=1_000_000, description="Weight of the distances; the paper uses 25.")
    ] = 25.0,
    angle_weight: Annotated[
        float, Field(ge=0, le=1_000_000, description="Weight of the angles; the paper uses 50.")
    ] = 50.0,
) -> Loss:
    """Relations between the samples of a batch: distances and angles of pooled features."""

    def loss(
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_features: Tensor,
        teacher_features: Tensor,
    ) -> Tensor:
        return rkd(student_features, teacher_features, distance_weight, angle_weight)

    return loss  # type: ignore[return-value]
