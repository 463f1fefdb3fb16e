"""Walks through an epoch: fetches, chooses, trains, and charges for it.

A trial and the estimate of its cost share this walk. They differ in who does the work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import Protocol, cast

import torch
from torch import Tensor

from kdas.clock import Clock, Work
from kdas.errors import UserError
from kdas.samplers import EpochPlan, ObservingSampler, Sampler, SamplerNeed, SelectingSampler, Statistic
from kdas.training.batch import Batch, taken


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
        self, batch: Batch, epoch: int, weights: Tensor | None, loss_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One update. Returns: as `Distiller.step`: the loss that was minimised, and the unweighted losses [B]."""
        ...

    def trained_logits(self) -> Tensor:
        """The student's logits [B, C] in the last step."""
        ...


class EpochWalk:
    """Carries out a sampler's plans and charges for it. Args: needs: of the sampler; batch_size: of a step."""

    def __init__(
        self, sampler: Sampler, needs: Collection[StrEnum], batch_size: int, clock: Clock, work: EpochWork
    ) -> None:
        self._sampler, self._needs, self._batch_size = sampler, needs, batch_size
        self._clock, self._work = clock, work
        # Batches in this epoch.
        self._num_trained = 0

    def batches(self, epoch: int, plan: EpochPlan) -> Iterator[tuple[Batch, bool]]:
        """The batches to train on, in order, and whether each is the epoch's last; fetched and chosen lazily."""
        self._clock.charge(Work.EPOCH, len(plan.order))
        self._num_trained = 0
        chosen: list[Batch] = []
        for fetched, is_last in self._fetched(epoch, plan):
            ready = [fetched] if len(fetched) > 1 else []  # unreadable images can leave too few for batch norm
            if plan.selects:
                chosen.extend(self._selected(epoch, plan, batch) for batch in ready)
                ready = taken(chosen, self._batch_size, all_of_them=is_last)
            for number, batch in enumerate(ready, start=1):
                yield batch, is_last and number == len(ready)

    def train(self, epoch: int, plan: EpochPlan, batch: Batch) -> tuple[Batch, Tensor]:
        """Take a step on a batch of `batches`. Returns: the batch with the teacher's answer, and the minimised loss."""
        if not self._asks_to_select(plan):
            batch = self._asked(batch)
        targets, teacher_logits = self._work.targets(batch), self._work.teacher_logits(batch)
        weights = self._sampler.distillation_weights(epoch, teacher_logits, targets)
        if weights is not None:
            self._clock.charge(Work.WEIGH, len(batch))
        loss_weights = None if plan.loss_weights is None else plan.loss_weights[batch.indices]
        loss, losses = self._work.step(batch, epoch, weights, loss_weights)
        self._clock.charge(Work.STEP, len(batch))
        self._num_trained += 1
        if SamplerNeed.PROXY_LOSSES in self._needs and self._num_trained % plan.proxy_period == 0:
            self._work.proxy_step(batch, epoch)
            self._clock.charge(Work.PROXY_STEP, len(batch))
        if plan.observes:
            self._observe(batch, losses)
        return batch, loss

    def teacher_pass(self, epoch: int, num_samples: int, statistic: Statistic) -> Tensor:
        """As `SamplerContext.teacher_pass`, charged like an epoch's fetching and the teacher's answers to it.

        Raises: UserError: if the sampler, perhaps a user's own, does not say that it needs passes.
        """
        if SamplerNeed.TEACHER_PASSES not in self._needs:
            raise UserError(f"sampler: asks for a pass of the teacher. Add {SamplerNeed.TEACHER_PASSES} to its needs.")
        plan = EpochPlan(torch.arange(num_samples), self._batch_size, rate=1.0)
        self._clock.charge(Work.EPOCH, num_samples)
        values = torch.full((num_samples,), torch.nan)
        found: list[tuple[Tensor, Tensor]] = []
        for fetched, _ in self._fetched(epoch, plan):
            if len(fetched):  # of unreadable images nothing is left
                batch = self._asked(fetched)
                found.append((batch.indices, statistic(self._work.teacher_logits(batch), self._work.targets(batch))))
        if found:
            indices, of_batches = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
            values[indices] = of_batches.float()
        return values

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

    def _fetched(self, epoch: int, plan: EpochPlan) -> Iterator[tuple[Batch, bool]]:
        """The batches of a plan, with the teacher's answers if there is a bank, and whether each is the last."""
        batches = plan.batches()
        for position, batch in enumerate(self._work.fetched(epoch, batches)):
            self._clock.charge(Work.AUGMENT, len(batch))
            yield self._work.looked_up(position, batch), position == len(batches) - 1

    def _selected(self, epoch: int, plan: EpochPlan, batch: Batch) -> Batch:
        """The samples that the sampler chooses from a fetched batch, given only what it needs to know."""
        needed: dict[str, Tensor] = {}
        if self._asks_to_select(plan):
            batch = self._asked(batch)
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

    def _asked(self, batch: Batch) -> Batch:
        """The batch with the teacher's answer, which is charged wherever it comes from."""
        self._clock.charge(Work.TEACHER, len(batch))
        return self._work.asked(batch)

    def _asks_to_select(self, plan: EpochPlan) -> bool:
        """Whether the teacher answers for all fetched samples, not only for those that are trained on."""
        return plan.selects and SamplerNeed.TEACHER_LOGITS in self._needs
