"""The interface of a distillation loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, Field
from torch import Tensor

from kdas.parts.registry import Registry


class LossNeed(StrEnum):
    """What a loss may need beyond logits and targets. Nothing that no loss needs is computed."""

    # At each call, as keywords of these names:
    EPOCH = "epoch"  # counted from 1
    INDICES = "indices"  # int64 [B], places in the training set
    GENERATOR = "generator"  # torch.Generator on the device, a function of seed, epoch and number of the batch
    STUDENT_FEATURES = "student_features"  # [B, D], the input of the last linear layer
    TEACHER_FEATURES = "teacher_features"  # [B, E]
    STUDENT_MAPS = "student_maps"  # list of [B, C, H, W]: the stem's, then at each stage's end, after the activation
    TEACHER_MAPS = "teacher_maps"
    STUDENT_PREACT_MAPS = "student_preact_maps"  # at the same places before the activation; the stem's is its map
    TEACHER_PREACT_MAPS = "teacher_preact_maps"
    STRONG_VIEW = "strong_view"  # the keywords student_strong_logits and teacher_strong_logits [B, C]: see `STRONG`
    # In its context, once:
    CLASS_MEANS = "class_means"  # a pass of the teacher over the training set is charged
    TEACHER_BATCH_NORMS = "teacher_batch_norms"  # where the teacher, or its layers, have them


# Needs that the model's features, or its maps, answer.
FEATURES = frozenset({LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES, LossNeed.CLASS_MEANS})
MAPS = frozenset(
    {
        LossNeed.STUDENT_MAPS,
        LossNeed.TEACHER_MAPS,
        LossNeed.STUDENT_PREACT_MAPS,
        LossNeed.TEACHER_PREACT_MAPS,
        LossNeed.TEACHER_BATCH_NORMS,
    }
)
# What only the teacher itself can answer: a bank keeps its logits alone.
LIVE = frozenset({LossNeed.TEACHER_FEATURES, LossNeed.TEACHER_MAPS, LossNeed.TEACHER_PREACT_MAPS, LossNeed.STRONG_VIEW})
# What a loss that needs a strong view gets: both answers to the same views after torchvision's RandAugment.
STRONG = ("student_strong_logits", "teacher_strong_logits")
AT_BUILDING = frozenset({LossNeed.CLASS_MEANS, LossNeed.TEACHER_BATCH_NORMS})


class Loss(Protocol):
    """Per-sample distillation loss.

    It may be an `nn.Module` with parameters, which are trained and saved with the student.
    """

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Args: student_logits [B, C]; teacher_logits [B, C]; targets [B]. Returns: loss [B], unreduced.

        A loss that is registered with needs also gets them as keywords, by the names in `LossNeed`, or finds them in
        its `LossContext`.
        """
        ...


# Channels, height and width of a map.
MapShape = tuple[int, int, int]


@dataclass(frozen=True)
class LossContext:
    """What a loss may know about its trial when it is built.

    `labels` int64 [num_samples] are those of the training set, on the device. Widths are of the features, 0 unless a
    loss needs features or maps; shapes are of the maps, none unless a loss needs maps. `class_means` returns the
    teacher's mean features [C, E] of the training images of each class; only for losses that need `class_means`.
    `teacher_batch_norms`: for each stage, weight and bias [C] of the batch norm before its last activation.
    """

    student_width: int
    teacher_width: int
    class_means: Callable[[], Tensor]
    num_classes: int = 0
    num_samples: int = 0
    labels: Tensor | None = None
    epochs: int = 1
    student_maps: tuple[MapShape, ...] = ()
    teacher_maps: tuple[MapShape, ...] = ()
    student_preact_maps: tuple[MapShape, ...] = ()
    teacher_preact_maps: tuple[MapShape, ...] = ()
    teacher_batch_norms: tuple[tuple[Tensor, Tensor], ...] = ()


class OfAnyLoss(BaseModel):
    """What a file may give to any loss, beside its parameters."""

    entropy_adaptive: bool = Field(
        False, description="Whether the entropies of both predictions weight each sample, as in EA-KD."
    )


LOSSES: Registry[Loss] = Registry(
    "loss",
    needs=LossNeed,
    usual=("ce_weight", "kd_weight"),
    common=OfAnyLoss,
    given_for=dict.fromkeys(STRONG, LossNeed.STRONG_VIEW),
)
