"""Similarity-preserving distillation: images that are similar to the teacher are similar to the student."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from kdas.losses.interface import LOSSES, Loss, LossNeed
from kdas.losses.maps import of_maps


def sp(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared difference of the similarities of each sample to all samples of the batch.

    Similarities are inner products of whole maps, and each sample's row of them is scaled to unit l2 norm. The mean
    over the batch is the published sum over both samples divided by B^2.

    Args: student_map, teacher_map [B, ...]; all but the first dimension may differ between the two.
    Returns: loss [B], the share of each sample's row.
    Source: Tung & Mori, ICCV 2019.
    """
    difference = _similarities(teacher_map.detach()) - _similarities(student_map)
    return difference.square().mean(dim=1)


def _similarities(feature_map: Tensor) -> Tensor:
    """[B, ...] -> [B, B], rows of unit norm."""
    flat = feature_map.flatten(1)
    return functional.normalize(flat @ flat.T, dim=1)


@LOSSES.register(
    "sp",
    source="Tung & Mori, ICCV 2019",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 3000.0},
)
def build_sp() -> Loss:
    """Similarities between the samples of a batch, by the last map."""
    return of_maps(lambda student_maps, teacher_maps: sp(student_maps[-1], teacher_maps[-1]))
