"""The seam of a distillation loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from kdas.parts.registry import Registry


class Loss(Protocol):
    """Per-sample distillation loss.

    It may be an `nn.Module` with parameters of its own: they are trained and kept with the student.
    """

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Args: student_logits [B, C]; teacher_logits [B, C]; targets [B]. Returns: loss [B], unreduced.

        A loss that is registered with `needs` gets these as keywords too: `epoch`, counted from 1;
        `student_features` [B, D] and `teacher_features` [B, E], what the last linear layers are applied to. With
        `class_means` it may ask its `LossContext` for them, and pays for the teacher's pass over the set.
        """
        ...


@dataclass(frozen=True)
class LossContext:
    """What a loss that needs features may know of its trial when it is built.

    `class_means` returns the mean features [C, E] that the teacher gives to the training images of each class; only
    for losses that need `class_means`.
    """

    student_width: int
    teacher_width: int
    class_means: Callable[[], Tensor]


LOSSES: Registry[Loss] = Registry(
    "loss", needs=("epoch", "student_features", "teacher_features", "class_means"), usual=("ce_weight", "kd_weight")
)
