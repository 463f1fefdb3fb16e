"""What a trial would cost, from its plans and prices alone: nothing is trained, no image is read."""

from __future__ import annotations

import torch
from torch import Tensor

from kdas import seeding
from kdas.clock import Calibration, Clock, Work, batch_sizes
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS
from kdas.samplers.interface import EpochPlan, Sampler, SamplerContext

# A part of a set large enough to hold whole batches at any rate; costs grow with the set.
BATCHES_PLAYED = 8
_CLASSES = 10


def estimated_cost_ref_s(config: TrialConfig, num_samples: int, calibration: Calibration) -> float:
    """Reference seconds of the whole schedule, were there no budget.

    The sampler plans and chooses as in a trial, among drawn logits and losses: right to a few percent, since what is
    chosen hardly decides how much.
    """
    played = min(num_samples, BATCHES_PLAYED * config.batch_size)
    context = SamplerContext(played, config.batch_size, config.epochs, config.seed)
    sampler = SAMPLERS.build(config.sampler, context)
    rehearsal = _Rehearsal(config, sampler, Clock(calibration, synchronize=lambda: None))
    for epoch in range(1, config.epochs + 1):
        rehearsal.epoch(epoch, sampler.plan(epoch))
    return rehearsal.clock.cost_ref_s * num_samples / played


class _Rehearsal:
    def __init__(self, config: TrialConfig, sampler: Sampler, clock: Clock) -> None:
        self._config, self._sampler, self.clock = config, sampler, clock
        self._needs = SAMPLERS[config.sampler["name"]].needs
        self._draw = seeding.generator(config.seed, "rehearsal")

    def epoch(self, epoch: int, plan: EpochPlan) -> None:
        trained: list[Tensor] = []
        asked_to_select = plan.selects and "teacher_logits" in self._needs
        for indices in plan.batches():
            self.clock.charge(Work.AUGMENT, len(indices))
            if asked_to_select:
                self.clock.charge(Work.TEACHER, len(indices))
            trained.append(self._selected(epoch, indices) if plan.selects else indices)
        order = torch.cat(trained)
        sizes = batch_sizes(len(order), self._config.batch_size) if plan.selects else [len(each) for each in trained]
        for indices in torch.split(order, sizes):
            self._train(epoch, indices, is_asked=asked_to_select)

    def _selected(self, epoch: int, indices: Tensor) -> Tensor:
        needed: dict[str, Tensor] = {}
        if "teacher_logits" in self._needs:
            needed["teacher_logits"] = self._logits(len(indices))
        if "student_logits" in self._needs:
            self.clock.charge(Work.SCORE, len(indices))
            needed["student_logits"] = self._logits(len(indices))
        if "targets" in self._needs:
            needed["targets"] = torch.randint(_CLASSES, (len(indices),), generator=self._draw)
        return indices[self._sampler.select(epoch, indices, **needed)]

    def _train(self, epoch: int, indices: Tensor, is_asked: bool) -> None:
        if not is_asked:
            self.clock.charge(Work.TEACHER, len(indices))
        targets = torch.randint(_CLASSES, (len(indices),), generator=self._draw)
        if self._sampler.distillation_weights(epoch, self._logits(len(indices)), targets) is not None:
            self.clock.charge(Work.WEIGH, len(indices))
        self.clock.charge(Work.STEP, len(indices))
        if "losses" in self._needs:
            self.clock.charge(Work.OBSERVE, len(indices))
            self._sampler.observe(indices, torch.rand(len(indices), generator=self._draw))

    def _logits(self, num_samples: int) -> Tensor:
        return torch.randn(num_samples, _CLASSES, generator=self._draw)
