"""Attention transfer: the student looks where the teacher looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed
from kdas.losses.maps import at_smaller_size, check_num_maps, of_maps, summed


def at(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], p: int = 2) -> Tensor:
    """Squared difference of attention maps, mean over positions, summed over pairs of maps.

    An attention map is the mean over channels of the p-th power, scaled to unit l2 norm per sample. The larger map of
    a pair is average-pooled first. Lists of different lengths are paired from the start.

    Args: student_maps, teacher_maps: of each stage, [B, C, H, W]; C, H and W may differ between the two.
    Returns: loss [B].
    Source: Zagoruyko & Komodakis, ICLR 2017; the form of the benchmark code of Tian et al., ICLR 2020, which keeps the
        sign of odd powers.
    """
    stages = []
    for pair in zip(student_maps, teacher_maps, strict=False):
        student_map, teacher_map = at_smaller_size(*pair)
        difference = _attention(student_map, p) - _attention(teacher_map.detach(), p)
        stages.append(difference.square().mean(dim=1))
    return summed(stages)


def _attention(feature_map: Tensor, p: int) -> Tensor:
    """[B, C, H, W] -> [B, H * W], rows of unit norm."""
    return functional.normalize(feature_map.pow(p).mean(dim=1).flatten(1), dim=1)


@LOSSES.register(
    "at",
    source="Zagoruyko & Komodakis, ICLR 2017",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 1000.0},
)
def build_at(
    context: LossContext,
    *,
    p: Annotated[int, Field(ge=1, le=100, description="Power of the activations; the paper uses 2.")] = 2,
) -> Loss:
    """Attention transfer: where activations are high, in the maps of all stages."""
    check_num_maps(context, "at", 2)
    return of_maps(lambda student_maps, teacher_maps: at(student_maps[1:], teacher_maps[1:], p))
