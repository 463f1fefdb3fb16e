"""What a trial would cost, from its plans and prices alone: nothing is trained, no image is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kdas import seeding
from kdas.clock import Calibration, Clock, Work
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS, SamplerNeed
from kdas.training.batch import Batch, Weights
from kdas.training.epoch import EpochWalk, answered_from, sampler_for

# A part of the set is enough, if it holds whole batches at any rate: costs grow in proportion to the set.
BATCHES_PLAYED = 8
_CLASSES = 10


def estimated_cost_ref_s(
    config: TrialConfig, num_samples: int, calibration: Calibration, teacher_accuracy: float = 1.0
) -> float:
    """Reference seconds of the whole schedule, without a budget.

    The sampler plans and chooses as in a trial, but from random logits and losses. The estimate is right to a few
    percent, since which samples are chosen hardly affects how many.

    Args: teacher_accuracy: on the views that are trained on; it matters if `is_chosen_by_teacher`.
    Raises: UserError: if the code of a user's own sampler fails.
    """
    with SAMPLERS.blamed(config.sampler["name"]):
        return _rehearsed_cost_ref_s(config, num_samples, calibration, teacher_accuracy)


def _rehearsed_cost_ref_s(
    config: TrialConfig, num_samples: int, calibration: Calibration, teacher_accuracy: float
) -> float:
    played = min(num_samples, BATCHES_PLAYED * config.batch_size)
    clock, needs = Clock(calibration), SAMPLERS[config.sampler["name"]].needs
    work = _Rehearsal(config.seed, SamplerNeed.LOSSES in needs, teacher_accuracy)
    sampler = sampler_for(config, played, torch.arange(played) % _CLASSES, clock, work)
    walk = EpochWalk(sampler, needs, config.batch_size, clock, work, answered_from(config))
    for epoch in range(1, config.epochs + 1):
        plan = sampler.plan(epoch)
        # Choose all batches before training on any, so that the order of draws, and so the estimate, stays the same.
        for batch, _ in list(walk.batches(epoch, plan)):
            walk.train(epoch, plan, batch)
    scale = num_samples / played
    epochs = [(size, count) for (work, size), count in clock.counts.items() if work is Work.EPOCH]
    played_s = sum(count * calibration.price(Work.EPOCH, size) for size, count in epochs)
    # The beginning of an epoch costs something however few samples it plans.
    epochs_s = sum(count * calibration.price(Work.EPOCH, round(scale * size)) for size, count in epochs)
    return scale * (clock.cost_ref_s - played_s) + epochs_s


def is_chosen_by_teacher(config: TrialConfig) -> bool:
    """Whether how much is trained on may depend on how often the teacher is right."""
    return {SamplerNeed.TEACHER_LOGITS, SamplerNeed.TARGETS} <= set(SAMPLERS[config.sampler["name"]].needs)


def rehearse(config: TrialConfig) -> None:
    """Have the sampler plan, choose and observe for an epoch, among drawn logits and losses.

    Raises: UserError: if its code fails.
    """
    free = Calibration("free", {}, dict.fromkeys(Work, ((1, 0.0),)))
    estimated_cost_ref_s(config.model_copy(update={"epochs": 1}), BATCHES_PLAYED * config.batch_size, free)


class _Rehearsal:
    """An `EpochWork` that does nothing: its results are drawn at random, each time it is called.

    The labels fit the teacher's last answer in `teacher_accuracy` of all samples.
    """

    def __init__(self, seed: int, draws_losses: bool, teacher_accuracy: float) -> None:
        self._draw, self._draws_losses = seeding.generator(seed, "rehearsal"), draws_losses
        self._teacher_accuracy = teacher_accuracy
        self._answer, self._num_answered, self._num_trained = torch.empty(0, _CLASSES), 0, 0

    def fetched(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for indices in batches:
            yield Batch(images=torch.empty(len(indices), 0), targets=indices, indices=indices)

    def looked_up(self, position: int, batch: Batch) -> Batch:
        return batch

    def asked(self, batch: Batch) -> Batch:
        return batch

    def teacher_logits(self, batch: Batch) -> Tensor:
        self._answer = torch.randn(len(batch), _CLASSES, generator=self._draw)
        return self._answer

    def student_logits(self, batch: Batch, epoch: int, mode: str) -> Tensor:
        return torch.randn(len(batch), _CLASSES, generator=self._draw)

    def reference_logits(self, batch: Batch) -> Tensor:
        return torch.randn(len(batch), _CLASSES, generator=self._draw)

    def proxy_losses(self, batch: Batch, epoch: int) -> Tensor:
        return torch.rand(len(batch), generator=self._draw)

    def proxy_step(self, batch: Batch, epoch: int) -> None:
        pass

    def targets(self, batch: Batch) -> Tensor:
        others = torch.randint(1, _CLASSES, (len(batch),), generator=self._draw)
        if len(self._answer) != len(batch):
            return others
        # Evenly, so that a small set has no luck.
        shares = self._teacher_accuracy * torch.arange(self._num_answered, self._num_answered + len(batch) + 1)
        self._num_answered += len(batch)
        is_right = shares.floor().diff() > 0
        return torch.where(is_right, self._answer.argmax(dim=1), (self._answer.argmax(dim=1) + others) % _CLASSES)

    def step(
        self, batch: Batch, epoch: int, weights: Weights | None, loss_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        if callable(weights):
            weights(torch.arange(len(batch)), torch.randn(len(batch), _CLASSES, generator=self._draw))
        losses = torch.rand(len(batch), generator=self._draw) if self._draws_losses else torch.empty(0)
        self._num_trained = len(batch)
        return torch.zeros(()), losses

    def trained_logits(self) -> Tensor:
        return torch.randn(self._num_trained, _CLASSES, generator=self._draw)
