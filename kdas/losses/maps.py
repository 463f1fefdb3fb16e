"""Feature maps of two sizes: what the losses that compare maps share."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from kdas.errors import UserError
from kdas.losses.interface import Loss, LossContext


def at_smaller_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the height of the smaller one; the larger one is average-pooled.

    Args: student_map [B, C, H, W]; teacher_map [B, D, G, V]; both square.
    Returns: the maps [B, C, h, h] and [B, D, h, h] with h = min(H, G); a map of height h is returned as it is.
    """
    student_size, teacher_size = student_map.shape[2], teacher_map.shape[2]
    if student_size > teacher_size:
        student_map = functional.adaptive_avg_pool2d(student_map, teacher_size)
    elif teacher_size > student_size:
        teacher_map = functional.adaptive_avg_pool2d(teacher_map, student_size)
    return student_map, teacher_map


def summed(stages: list[Tensor]) -> Tensor:
    """The sum [B] over stages of a loss [B] of each."""
    total: Tensor = sum(stages[1:], start=stages[0])
    return total


def check_num_maps(context: LossContext, loss: str, least: int) -> None:
    """Raises: UserError: if student or teacher has fewer maps than the loss needs, the stem's included."""
    numbers = len(context.student_maps), len(context.teacher_maps)
    if min(numbers) < least:
        raise UserError(
            f"loss {loss}: expected at least {least} maps of each model, the stem's included, got {numbers[0]} of the"
            f" student and {numbers[1]} of the teacher. Name more layers in student_layers and teacher_layers."
        )


def of_maps(compare: Callable[[list[Tensor], list[Tensor]], Tensor]) -> Loss:
    """A loss of nothing but maps. Args: compare: the student's maps and the teacher's, to a loss [B]."""

    def loss(
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_maps: list[Tensor],
        teacher_maps: list[Tensor],
    ) -> Tensor:
        return compare(student_maps, teacher_maps)

    return loss  # type: ignore[return-value]
