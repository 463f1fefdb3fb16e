"""The interface of a distillation loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from torch import Tensor

from kdas.parts.registry import Registry


class LossNeed(StrEnum):
    """What a loss may need beyond logits and targets."""

    EPOCH = "epoch"  # counted from 1
    STUDENT_FEATURES = "student_features"  # [B, D], the input of the last linear layer
    TEACHER_FEATURES = "teacher_features"  # [B, E]
    CLASS_MEANS = "class_means"  # in its context, once: a pass of the teacher over the training set is charged


class Loss(Protocol):
    """Per-sample distillation loss.

    It may be an `nn.Module` with parameters, which are trained and saved with the student.
    """

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Args: student_logits [B, C]; teacher_logits [B, C]; targets [B]. Returns: loss [B], unreduced.

        A loss that is registered with needs also gets them as keywords, by the names in `LossNeed`. With `CLASS_MEANS`
        it may get the means from its `LossContext`, and is charged for the teacher's pass over the set.
        """
        ...


@dataclass(frozen=True)
class LossContext:
    """What a loss that needs features may know about its trial when it is built.

    `class_means` returns the teacher's mean features [C, E] of the training images of each class; only for losses that
    need `class_means`.
    """

    student_width: int
    teacher_width: int
    class_means: Callable[[], Tensor]


LOSSES: Registry[Loss] = Registry("loss", needs=LossNeed, usual=("ce_weight", "kd_weight"))
