"""Walks through an epoch: fetches, chooses, trains, and charges for it.

A trial and the estimate of its cost share this walk. They differ in who does the work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from kdas.clock import Clock, Work
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import SelfTeacher
from kdas.samplers import (
    SAMPLERS,
    EpochPlan,
    ObservingSampler,
    Sampler,
    SamplerContext,
    SamplerNeed,
    SelectingSampler,
    Statistic,
)
from kdas.training.batch import Batch, Weights, taken


class EpochWork(Protocol):
    """The work on the batches of an epoch, in a trial or in a rehearsal. The walk charges for it."""

    def fetched(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """A batch for each of the given indices [B], on the CPU; samples with unreadable images are left out."""
        ...

    def looked_up(self, position: int, batch: Batch) -> Batch:
        """The batch fetched at this position, with the teacher's answer if there is a bank."""
        ...

    def asked(self, batch: Batch) -> Batch:
        """The batch with the teacher's answer."""
        ...

    def teacher_logits(self, batch: Batch) -> Tensor:
        """The teacher's logits [B, C] from its answer to a batch."""
        ...

    def student_logits(self, batch: Batch, epoch: int, mode: str) -> Tensor:
        """Logits [B, C] to score by. Args: mode: `eval` or `train`."""
        ...

    def reference_logits(self, batch: Batch) -> Tensor:
        """Logits [B, C] of the sampler's reference."""
        ...

    def proxy_losses(self, batch: Batch, epoch: int) -> Tensor:
        """Cross-entropies [B] of the sampler's proxy."""
        ...

    def proxy_step(self, batch: Batch, epoch: int) -> None:
        """One update of the proxy."""
        ...

    def targets(self, batch: Batch) -> Tensor:
        """Labels [B]."""
        ...

    def step(
        self, batch: Batch, epoch: int, weights: Weights | None, loss_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One update. Returns: as `Distiller.step`: the loss that was minimised, and the unweighted losses [B]."""
        ...

    def trained_logits(self) -> Tensor:
        """The student's logits [B, C] in the last step."""
        ...


def answered_from(config: TrialConfig) -> int:
    """The first epoch that has a teacher, counted from 1: a student has a past after its first epoch."""
    return 2 if isinstance(config.teacher, SelfTeacher) else 1


def sampler_for(config: TrialConfig, num_samples: int, labels: Tensor, clock: Clock, work: EpochWork) -> Sampler:
    """The sampler of a trial, which may ask for passes of the teacher if it says so.

    Args: num_samples: of the training set; labels int64 [num_samples], on the device.
    """
    context = SamplerContext(num_samples, config.batch_size, config.epochs, config.seed, labels)
    if SamplerNeed.TEACHER_PASSES in SAMPLERS[config.sampler["name"]].needs:
        # Not a method of the walk, which holds the sampler: a cycle would keep a trial's memory after its end.
        asking = partial(teacher_pass, clock, work, num_samples, config.batch_size)
        context = replace(context, teacher_pass=asking)
    return SAMPLERS.build(config.sampler, context)


def teacher_pass(
    clock: Clock, work: EpochWork, num_samples: int, batch_size: int, epoch: int, statistic: Statistic
) -> Tensor:
    """As `SamplerContext.teacher_pass`, charged like an epoch's fetching and the teacher's answers to it."""
    plan = EpochPlan(torch.arange(num_samples), batch_size, rate=1.0)
    clock.charge(Work.EPOCH, num_samples)
    values = torch.full((num_samples,), torch.nan)
    found: list[tuple[Tensor, Tensor]] = []
    for fetched, _ in _fetched(epoch, plan, clock, work):
        if len(fetched):  # of unreadable images nothing is left
            batch = _asked(fetched, clock, work)
            found.append((batch.indices, statistic(work.teacher_logits(batch), work.targets(batch))))
    if found:
        indices, of_batches = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        values[indices] = of_batches.float()
    return values


def _fetched(epoch: int, plan: EpochPlan, clock: Clock, work: EpochWork) -> Iterator[tuple[Batch, bool]]:
    """The batches of a plan, with the teacher's answers if there is a bank, and whether each is the last."""
    batches = plan.batches()
    for position, batch in enumerate(work.fetched(epoch, batches)):
        clock.charge(Work.AUGMENT, len(batch))
        yield work.looked_up(position, batch), position == len(batches) - 1


def _asked(batch: Batch, clock: Clock, work: EpochWork) -> Batch:
    """The batch with the teacher's answer, which is charged wherever it comes from."""
    clock.charge(Work.TEACHER, len(batch))
    return work.asked(batch)


class EpochWalk:
    """Carries out a sampler's plans and charges for it.

    Args: needs: of the sampler; batch_size: of a step; answered_from: the first epoch that has a teacher.
    """

    def __init__(
        self,
        sampler: Sampler,
        needs: Collection[StrEnum],
        batch_size: int,
        clock: Clock,
        work: EpochWork,
        answered_from: int = 1,
    ) -> None:
        self._answered_from = answered_from
        self._sampler, self._needs, self._batch_size = sampler, needs, batch_size
        self._clock, self._work = clock, work
        # Whether the sampler gave weights for the last batch.
        self._is_weighed = False
        # Batches in this epoch.
        self._num_trained = 0

    def batches(self, epoch: int, plan: EpochPlan) -> Iterator[tuple[Batch, bool]]:
        """The batches to train on, in order, and whether each is the epoch's last; fetched and chosen lazily."""
        self._clock.charge(Work.EPOCH, len(plan.order))
        self._num_trained = 0
        chosen: list[Batch] = []
        for fetched, is_last in _fetched(epoch, plan, self._clock, self._work):
            ready = [fetched] if len(fetched) > 1 else []  # unreadable images can leave too few for batch norm
            if plan.selects:
                chosen.extend(self._selected(epoch, plan, batch) for batch in ready)
                ready = taken(chosen, self._batch_size, all_of_them=is_last)
            for number, batch in enumerate(ready, start=1):
                yield batch, is_last and number == len(ready)

    def train(self, epoch: int, plan: EpochPlan, batch: Batch) -> tuple[Batch, Tensor]:
        """Take a step on a batch of `batches`. Returns: the batch with the teacher's answer, and the minimised loss."""
        weights = None
        if epoch >= self._answered_from:
            if not self._asks_to_select(plan):
                batch = _asked(batch, self._clock, self._work)
            targets, teacher_logits = self._work.targets(batch), self._work.teacher_logits(batch)
            weights = self._weights(epoch, teacher_logits, targets)
        self._is_weighed = isinstance(weights, Tensor)
        if self._is_weighed:
            self._clock.charge(Work.WEIGH, len(batch))
        loss_weights = None if plan.loss_weights is None else plan.loss_weights[batch.indices]
        loss, losses = self._work.step(batch, epoch, weights, loss_weights)
        self._clock.charge(Work.STEP, len(batch))
        if callable(weights) and self._is_weighed:
            self._clock.charge(Work.WEIGH, len(batch))
        self._num_trained += 1
        if SamplerNeed.PROXY_LOSSES in self._needs and self._num_trained % plan.proxy_period == 0:
            self._work.proxy_step(batch, epoch)
            self._clock.charge(Work.PROXY_STEP, len(batch))
        if plan.observes:
            self._observe(batch, losses)
        return batch, loss

    def _weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Weights | None:
        """The sampler's weights of a batch, given only what it needs to know; None means 1."""
        if SamplerNeed.WEIGHED_LOGITS not in self._needs:
            return self._sampler.distillation_weights(epoch, teacher_logits, targets)

        def of_part(positions: Tensor, weighed_logits: Tensor) -> Tensor | None:
            of_teacher, labels = teacher_logits[positions], targets[positions]
            weights = self._sampler.distillation_weights(epoch, of_teacher, labels, weighed_logits=weighed_logits)
            self._is_weighed |= weights is not None
            return weights

        return of_part

    def _observe(self, batch: Batch, losses: Tensor) -> None:
        """Tell the sampler of a batch just trained on what it needs to know."""
        needed: dict[str, Tensor] = {}
        if SamplerNeed.LOSSES in self._needs:
            self._clock.charge(Work.OBSERVE, len(batch))
            needed[SamplerNeed.LOSSES] = losses
        if SamplerNeed.TRAINED_LOGITS in self._needs:
            self._clock.charge(Work.TRACK, len(batch))
            needed[SamplerNeed.TRAINED_LOGITS] = self._work.trained_logits()
        if needed:
            cast(ObservingSampler, self._sampler).observe(batch.indices, **needed)

    def _selected(self, epoch: int, plan: EpochPlan, batch: Batch) -> Batch:
        """The samples that the sampler chooses from a fetched batch, given only what it needs to know."""
        needed: dict[str, Tensor] = {}
        if self._asks_to_select(plan):
            batch = _asked(batch, self._clock, self._work)
            needed[SamplerNeed.TEACHER_LOGITS] = self._work.teacher_logits(batch)
        if SamplerNeed.STUDENT_LOGITS in self._needs:
            self._clock.charge(Work.SCORE, len(batch))
            needed[SamplerNeed.STUDENT_LOGITS] = self._work.student_logits(batch, epoch, plan.score_mode)
        if SamplerNeed.REFERENCE_LOGITS in self._needs:
            # A forward pass of a student like this one.
            self._clock.charge(Work.SCORE, len(batch))
            needed[SamplerNeed.REFERENCE_LOGITS] = self._work.reference_logits(batch)
        if SamplerNeed.PROXY_LOSSES in self._needs:
            self._clock.charge(Work.PROXY_SCORE, len(batch))
            needed[SamplerNeed.PROXY_LOSSES] = self._work.proxy_losses(batch, epoch)
        if SamplerNeed.TARGETS in self._needs:
            needed[SamplerNeed.TARGETS] = self._work.targets(batch)
        positions = cast(SelectingSampler, self._sampler).select(epoch, batch.indices, **needed)
        return batch.rows(positions)

    def _asks_to_select(self, plan: EpochPlan) -> bool:
        """Whether the teacher answers for all fetched samples, not only for those that are trained on."""
        return plan.selects and SamplerNeed.TEACHER_LOGITS in self._needs
