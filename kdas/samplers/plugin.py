"""The seam of a sampler."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import torch
from pydantic import Field
from torch import Tensor

from kdas.registry import Registry

Rate = Annotated[
    float, Field(gt=0, le=1, description="A rate is a fraction of each batch; the paper goes from 0.6 to 0.4.")
]


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler may know of its trial. The training set is numbered 0..num_samples - 1."""

    num_samples: int
    batch_size: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: the order of the samples, how many are fetched at once, and whether they are scored and selected.

    `rate` is the fraction of a fetched batch that is trained on, for the record.
    """

    order: Tensor
    batch_size: int
    rate: float
    selects: bool = False

    @property
    def num_batches(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def batches(self) -> Iterator[Tensor]:
        """Indices [B] of each fetched batch; the last may be smaller."""
        return iter(torch.split(self.order, self.batch_size))


class Sampler(Protocol):
    """Decides what is trained on. All its draws come from the trial's seed; its state goes into checkpoints."""

    def plan(self, epoch: int) -> EpochPlan:
        """The samples of an epoch, counted from 1."""
        ...

    def select(self, epoch: int, student_logits: Tensor, teacher_logits: Tensor, indices: Tensor) -> Tensor:
        """Positions [keep] to train on within a fetched batch; called only where the plan selects.

        Args: student_logits, teacher_logits [B, C], raw; indices [B].
        """
        ...

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        """Weights [B] of the distillation term for a trained batch; None means 1."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


SAMPLERS: Registry[Sampler] = Registry("sampler")
