"""Neuron selectivity transfer: the student's channels respond to the same positions as the teacher's."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed
from kdas.losses.maps import at_smaller_size, check_num_maps, of_maps, summed


def nst(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Squared maximum mean discrepancy between the channels of student and teacher, summed over pairs of maps.

    A channel is its responses at all positions, scaled to unit l2 norm. The kernel is the squared inner product. The
    larger map of a pair is average-pooled first. Lists of different lengths are paired from the start.

    Args: student_maps, teacher_maps: of each stage, [B, C, H, W]; C, H and W may differ between the two.
    Returns: loss [B].
    Source: Huang & Wang, 2017 (arXiv 1707.01219), polynomial kernel with d = 2 and c = 0.
    """
    stages = []
    for pair in zip(student_maps, teacher_maps, strict=False):
        student, teacher = (functional.normalize(each.flatten(2), dim=2) for each in at_smaller_size(*pair))
        teacher = teacher.detach()
        stages.append(_kernel(teacher, teacher) + _kernel(student, student) - 2 * _kernel(student, teacher))
    return summed(stages)


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """Mean over pairs of channels of the squared inner product [B]. Args: one [B, C, P], other [B, D, P]."""
    channels, positions = one.shape[1] * other.shape[1], one.shape[2]
    if positions**2 <= channels:
        # The squared norm of A B^T is also the inner product of A^T A and B^T B, which have the size of the map.
        return ((one.mT @ one) * (other.mT @ other)).sum(dim=(1, 2)) / channels
    return (one @ other.mT).square().mean(dim=(1, 2))


@LOSSES.register(
    "nst",
    source="Huang & Wang, 2017 (arXiv 1707.01219)",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 50.0},
)
def build_nst(context: LossContext) -> Loss:
    """Neuron selectivity transfer: the distribution of channels' responses, in the maps of all stages."""
    check_num_maps(context, "nst", 2)
    return of_maps(lambda student_maps, teacher_maps: nst(student_maps[1:], teacher_maps[1:]))
