"""The interface of a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Field
from torch import Tensor

from kdas.data import batches_of
from kdas.errors import UserError
from kdas.parts.registry import Registry

Rate = Annotated[float, Field(gt=0, le=1, description="Fraction of each batch; the paper goes from 0.6 to 0.4.")]
ScoreMode = Annotated[
    Literal["eval", "train"],
    Field(description="Mode of the student while scoring; the official release uses train, which updates batch norm."),
]
# One number for each sample of a batch: (logits [B, C], targets [B]) -> [B].
Statistic = Callable[[Tensor, Tensor], Tensor]


class SamplerNeed(StrEnum):
    """What a sampler may need to know; only that is computed and charged."""

    # For `select`, as keywords of these names:
    STUDENT_LOGITS = "student_logits"  # [B, C], raw
    TEACHER_LOGITS = "teacher_logits"  # [B, C], raw
    TARGETS = "targets"  # [B]
    REFERENCE_LOGITS = "reference_logits"  # [B, C], raw, of the kept student that the parameter `reference` names
    # [B], cross-entropies of a small network, which is trained on what is selected; the parameter `proxy` names it
    PROXY_LOSSES = "proxy_losses"
    # For `distillation_weights`, as a keyword of this name:
    WEIGHED_LOGITS = "weighed_logits"  # [B, C], raw, the student's in the training step, detached
    # For `observe`, as keywords of these names:
    LOSSES = "losses"  # [B], unweighted
    TRAINED_LOGITS = "trained_logits"  # [B, C], raw, the student's in the training step
    # In its context, where each pass is charged when it is asked for:
    TEACHER_PASSES = "teacher_passes"


def _no_pass(epoch: int, statistic: Statistic) -> Tensor:
    raise UserError(f"sampler: asks for a pass of the teacher. Add {SamplerNeed.TEACHER_PASSES} to its needs.")


@dataclass(frozen=True)
class SamplerContext:
    """What a sampler may know about its trial. The training set is numbered 0..num_samples - 1.

    `labels` int64 [num_samples] are on the device. `teacher_pass(epoch, statistic)` has the teacher answer for every
    sample, in the view that the sample has in that epoch; only for samplers that need `teacher_passes`. It returns the
    statistic of each sample, float32 [num_samples], on the CPU; NaN where the image could not be read.
    """

    num_samples: int
    batch_size: int
    epochs: int
    seed: int
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    teacher_pass: Callable[[int, Statistic], Tensor] = _no_pass


@dataclass(frozen=True)
class EpochPlan:
    """One epoch: the order of the samples, how many are fetched at once, and whether the sampler selects among them.

    `rate` is the fraction of the fetched samples that is trained on, for the record; `score_mode` the student's mode
    while scoring; `loss_weights` [num_samples], if given, weigh the whole loss of each sample. `observes`: whether a
    sampler that observes does so in this epoch. `proxy_period`: a proxy takes a step on every n-th trained batch.
    """

    order: Tensor
    batch_size: int
    rate: float
    selects: bool = False
    score_mode: str = "eval"
    loss_weights: Tensor | None = None
    observes: bool = True
    proxy_period: int = 1

    def check(self, name: str, epoch: int, num_samples: int) -> None:
        """Raises: UserError: if the plan, perhaps that of a user's own sampler, is empty or names unknown samples."""
        if not len(self.order) or self.order.min() < 0 or self.order.max() >= num_samples:
            raise UserError(
                f"sampler {name}: its plan for epoch {epoch} is empty or contains samples outside 0 to"
                f" {num_samples - 1}. Fix its plan()."
            )

    def on(self, device: str) -> EpochPlan:
        """The plan with its weights on the device."""
        weights = self.loss_weights
        return self if weights is None else replace(self, loss_weights=weights.to(device))

    def batches(self) -> list[Tensor]:
        """Indices [B] of each fetched batch, on the CPU; the last may be smaller."""
        return batches_of(self.order, self.batch_size)


class Sampler(Protocol):
    """Decides what is trained on. All its draws come from the trial's seed; its state goes into checkpoints.

    It declares its `SamplerNeed`s when it registers. If its plans select, it is also a `SelectingSampler`; if it needs
    losses or logits of trained batches, it is also an `ObservingSampler`.
    """

    def plan(self, epoch: int) -> EpochPlan:
        """The samples of an epoch, counted from 1. At least two are trained on: batch norm cannot take one."""
        ...

    distillation_weights: Callable[..., Tensor | None]
    """distillation_weights(epoch, teacher_logits, targets, **needed): weights [B] of the distillation term for a
    trained batch; None means 1.

    Args: teacher_logits [B, C], raw; targets [B]; weighed_logits [B, C], only for samplers that need them, which are
    asked about each part of a batch if the trial accumulates.
    """

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class SelectingSampler(Protocol):
    """What a sampler also has if it chooses within fetched batches."""

    select: Callable[..., Tensor]
    """select(epoch, indices, **needed): positions int64 [keep] to train on in a fetched batch, if the plan selects.

    Args: indices [B]; student_logits, teacher_logits, reference_logits [B, C], raw; targets, proxy_losses [B]; all on
    the device. Selected samples are trained on in batches of `batch_size`; the last batch of an epoch may be smaller.
    """


class ObservingSampler(Protocol):
    """What a sampler also has if it needs losses or logits of trained batches."""

    observe: Callable[..., None]
    """observe(indices, **needed): called after each step with the batch that was trained on.

    Args: indices [B]; losses [B]; trained_logits [B, C]; all on the device: reading them at every step makes it wait.
    """


SAMPLERS: Registry[Sampler] = Registry("sampler", needs=SamplerNeed)

# The parameters by which samplers name networks that they need.
_NAMED_BY = {SamplerNeed.REFERENCE_LOGITS: "reference", SamplerNeed.PROXY_LOSSES: "proxy"}


def network_of(sampler: Mapping[str, Any], need: SamplerNeed) -> str:
    """The network that a sampler names for a need, as `reference` or `proxy`; "" if it does not need one.

    Args: sampler: as a checked file gives it.
    Raises: UserError: if the sampler, a user's own, has no parameter of that name.
    """
    name, parameter = sampler["name"], _NAMED_BY[need]
    if need not in SAMPLERS[name].needs:
        return ""
    if parameter not in sampler:
        raise UserError(f"sampler {name}: needs {need}, but no parameter names the network. Add one: {parameter}.")
    return str(sampler[parameter])
