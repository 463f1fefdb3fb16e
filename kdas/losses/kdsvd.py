"""Distillation by singular value decomposition: how the main directions of neighbouring maps relate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed
from kdas.losses.maps import at_smaller_size, check_num_maps, of_maps, summed

# Of the authors' code: the student offers this many more vectors than the teacher to choose from.
MORE_FOR_STUDENT = 3
# Of the authors' code: the denominator inside the radial basis function.
BANDWIDTH = 8
# Relative to the largest squared singular value: vectors that are closer than this have no stable direction.
SMALLEST_GAP = 1e-6


class _RightSingularVectors(torch.autograd.Function):
    """Right singular vectors whose gradient leaves out what pairs of equal singular values would make infinite."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> tuple[Tensor, Tensor]:
        """Args: matrices [B, M, N], M >= N. Returns: vectors [B, N, N], as columns, and singular values [B, N]."""
        _, values, rows = torch.linalg.svd(matrices, full_matrices=False)
        vectors = rows.mT.contiguous()
        ctx.save_for_backward(matrices, vectors, values)
        ctx.mark_non_differentiable(values)
        return vectors, values

    @staticmethod
    def backward(ctx: Any, vector_gradient: Tensor, _: Tensor) -> Tensor:
        """They are the eigenvectors of M^T M, and eigenvectors i and j turn into each other by 1 / (e_j - e_i)."""
        matrices, vectors, values = ctx.saved_tensors
        squares = values.square()
        gaps = squares[:, None, :] - squares[:, :, None]
        apart = gaps.abs() > SMALLEST_GAP * squares[:, :1, None]
        turns = (vectors.mT @ vector_gradient) * apart / gaps.where(apart, 1)
        of_product = vectors @ turns @ vectors.mT
        gradient: Tensor = matrices @ (of_product + of_product.mT)
        return gradient


def kdsvd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], k: int = 1) -> Tensor:
    """Squared difference of radial basis functions of the main singular vectors of neighbouring maps, summed.

    A map is a matrix with a row for each channel and height and a column for each position across. Its first k right
    singular vectors are scaled by the teacher's singular values, which have unit l2 norm together. The student's are
    those among its first k + 3 that are most parallel to the teacher's, with the same signs. The larger map of a pair
    is average-pooled first. Computed in float32.

    Args: student_maps, teacher_maps: of each stage, [B, C, H, H]; C and H may differ between the two.
    Returns: loss [B].
    Source: Lee et al., ECCV 2018; the form of the benchmark code of Tian et al., ICLR 2020, which takes maps of equal
        sizes only.
    """
    earlier: tuple[Tensor, Tensor] | None = None
    stages = []
    for pair in zip(student_maps, teacher_maps, strict=False):
        student_map, teacher_map = at_smaller_size(*pair)
        teacher, values = _directions(teacher_map.detach(), k)
        student, _ = _directions(student_map, k + MORE_FOR_STUDENT)
        scale = functional.normalize(values, dim=1)[:, None]
        vectors = _aligned(student, teacher) * scale, teacher * scale
        if earlier is not None:
            relations = (_relation(*both) for both in zip(vectors, earlier, strict=True))
            student_relation, teacher_relation = relations
            stages.append((student_relation - teacher_relation).square().sum(dim=(1, 2, 3)))
        earlier = vectors
    return summed(stages).to(student_maps[0].dtype)


def _directions(feature_map: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first right singular vectors [B, W, count], as columns, and singular values [B, count]."""
    # A student that has diverged shows in its logits. Here it would end the trial with an error.
    matrices = feature_map.flatten(1, 2).float().nan_to_num()
    vectors, values = _RightSingularVectors.apply(matrices)
    return vectors[:, :, :count], values[:, :count]


def _aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """For each of the teacher's vectors the student's that is most parallel to it, in the same sense.

    Args: student [B, W, L], teacher [B, W, K]. Returns: [B, W, K].
    """
    cosines = student.mT @ teacher
    most_parallel = cosines.abs().argmax(dim=1, keepdim=True)
    sign = cosines.gather(1, most_parallel).sign().detach()
    return sign * student.gather(2, most_parallel.expand(-1, student.shape[1], -1))


def _relation(vectors: Tensor, earlier: Tensor) -> Tensor:
    """[B, W, K] and [B, V, K], of the map before -> [B, W, V, K]."""
    return (-(vectors[:, :, None] - earlier[:, None]).square() / BANDWIDTH).exp()


@LOSSES.register(
    "kdsvd",
    source="Lee et al., ECCV 2018",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
def build_kdsvd(
    context: LossContext,
    *,
    k: Annotated[
        int, Field(ge=1, le=1000, description="Singular vectors of each of the teacher's maps; the benchmark uses 1.")
    ] = 1,
) -> Loss:
    """Relations between the main singular vectors of neighbouring maps, of all stages."""
    check_num_maps(context, "kdsvd", 3)
    return of_maps(lambda student_maps, teacher_maps: kdsvd(student_maps[1:], teacher_maps[1:], k))
