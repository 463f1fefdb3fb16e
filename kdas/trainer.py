"""Trains one trial and yields a curve row at every evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdas import checkpoint, schedules
from kdas.clock import Calibration, Clock, Work
from kdas.device import repeatable, synchronize
from kdas.distiller import Batch
from kdas.evaluate import accuracy
from kdas.records import CurveRow, Status, UserError
from kdas.samplers import SAMPLERS, EpochPlan, Sampler, SamplerContext
from kdas.trial import Trial


@dataclass(frozen=True)
class Surroundings:
    """What a trial is told about where it runs; nothing here may change its curve but the prices."""

    calibration: Calibration
    checkpoint: Path | None = None
    num_cotenants: int = 0
    data_s: float = 0.0
    checkpoint_every_s: float = 10.0


class Training:
    """A trial between its first and its last step. A checkpoint holds all of its state."""

    def __init__(self, trial: Trial, surroundings: Surroundings) -> None:
        config = trial.config
        self.trial, self.surroundings = trial, surroundings
        self.distiller = trial.distiller()
        num_samples = len(trial.inputs.splits.train)
        context = SamplerContext(num_samples, config.batch_size, config.epochs, config.seed)
        self.sampler: Sampler = SAMPLERS.build(config.sampler, context)
        self.clock = Clock(surroundings.calibration, partial(synchronize, trial.inputs.device))
        # The cost of plain distillation over all epochs: no method may spend more.
        self.budget_ref_s = surroundings.calibration.plain_run_s(num_samples, config.batch_size, config.epochs)
        self.flops = self.distiller.flops()
        self.status = Status.RUNNING
        self.epoch = self.step = self.loss_samples = 0
        self.loss_sum = torch.zeros((), device=trial.inputs.device)
        self._saved_at_wall_s = 0.0
        self._restore()

    def rows(self) -> Iterator[CurveRow]:
        """Train on to the end of the schedule or of the budget."""
        repeatable(self.trial.config.threads)
        while self.status is Status.RUNNING:
            self.epoch += 1
            yield from self._train_epoch(self.epoch)
            if self.status is Status.RUNNING:
                self._save()

    def _train_epoch(self, epoch: int) -> Iterator[CurveRow]:
        plan = self.sampler.plan(epoch)
        learning_rate = self._set_learning_rate(epoch)
        view_ids = self.trial.inputs.splits.views.draw(
            len(self.trial.inputs.splits.train), self.trial.config.seed, epoch
        )
        self.clock.start()
        for position, indices in enumerate(plan.batches(), start=1):
            cost_before = self.clock.cost_ref_s
            self._train_batch(epoch, self._fetch(epoch, plan, indices, view_ids))
            self._end_if_done(last_batch=position == plan.num_batches)
            if self.status is not Status.RUNNING or self._evaluation_is_due(cost_before):
                self.clock.pause()
                yield self._evaluate(plan.rate, learning_rate)
                if self.status is not Status.RUNNING:
                    return
                self.clock.start()
        self.clock.pause()

    def _end_if_done(self, last_batch: bool) -> None:
        schedule_is_used_up = last_batch and self.epoch == self.trial.config.epochs
        if schedule_is_used_up or self.clock.cost_ref_s >= self.budget_ref_s:
            self.status = Status.BUDGET

    def _set_learning_rate(self, epoch: int) -> float:
        config = self.trial.config
        rate = schedules.learning_rate(
            epoch,
            config.epochs,
            base=config.optimizer.learning_rate,
            schedule=config.optimizer.schedule,
            final=config.optimizer.final_learning_rate,
        )
        for group in self.distiller.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _fetch(self, epoch: int, plan: EpochPlan, indices: Tensor, view_ids: Tensor) -> Batch:
        """The batch to train on, with the teacher's logits: all that was cut, or what the sampler selects of it."""
        batch = self.distiller.fetch(indices, view_ids)
        self.clock.charge(Work.AUGMENT, len(batch))
        self.clock.charge(Work.TEACHER, len(batch))
        if not plan.selects:
            return batch
        student_logits = self.distiller.scoring_logits(batch)
        self.clock.charge(Work.SCORE, len(batch))
        return batch.rows(self.sampler.select(epoch, student_logits, batch.teacher_logits, batch.indices))

    def _train_batch(self, epoch: int, batch: Batch) -> None:
        weights = self.sampler.distillation_weights(epoch, batch.teacher_logits, batch.targets)
        if weights is not None:
            self.clock.charge(Work.WEIGH, len(batch))
        loss = self.distiller.step(batch, weights)
        self.clock.charge(Work.STEP, len(batch))
        self.step += 1
        # Summed on the device: reading it every step would make the device wait.
        self.loss_sum += loss * len(batch)
        self.loss_samples += len(batch)

    def _evaluation_is_due(self, cost_before: float) -> bool:
        """Evaluations stand at equal cost for all methods, whatever an epoch of theirs holds."""
        interval = self.budget_ref_s / self.trial.config.evaluations

        def passed(cost: float) -> int:
            # An evaluation due exactly at an epoch's end must not slip behind it for the last bit of a sum.
            return math.floor(cost / interval + 1e-9)

        return passed(self.clock.cost_ref_s) > passed(cost_before)

    def _evaluate(self, sampling_rate: float, learning_rate: float) -> CurveRow:
        splits, student = self.trial.inputs.splits, self.distiller.student
        train_loss = float(self.loss_sum) / self.loss_samples
        self.loss_sum, self.loss_samples = torch.zeros_like(self.loss_sum), 0
        with self.clock.evaluating():
            test_accuracy = accuracy(student, splits.test, splits)
            own_split = splits.validation is not splits.test
            val_accuracy = accuracy(student, splits.validation, splits) if own_split else test_accuracy
        if not math.isfinite(train_loss):
            self.status = Status.DIVERGED
        score_flops, step_flops, teacher_flops = self.flops
        trained, scored, asked = (self.clock.samples(work) for work in (Work.STEP, Work.SCORE, Work.TEACHER))
        return CurveRow(
            trial_id=self.trial.trial_id,
            config_id=self.trial.config_id,
            dataset=self.trial.inputs.dataset.name,
            pair=self.trial.pair,
            seed=self.trial.config.seed,
            epoch=self.epoch,
            step=self.step,
            samples_trained=trained,
            samples_scored=scored,
            teacher_forwards=asked,
            flops=trained * step_flops + scored * score_flops + asked * teacher_flops,
            cost_ref_s=self.clock.cost_ref_s,
            # The teacher runs live on every view, so what was paid is what would be paid alone.
            cost_as_run_s=self.clock.cost_ref_s,
            wall_s=self.clock.wall_s,
            eval_s=self.clock.eval_s,
            data_s=self.surroundings.data_s,
            num_cotenants=self.surroundings.num_cotenants,
            calibration_id=self.surroundings.calibration.calibration_id,
            device=self.trial.inputs.device,
            train_loss=train_loss,
            val_accuracy=val_accuracy,
            test_accuracy=test_accuracy,
            sampling_rate=sampling_rate,
            learning_rate=learning_rate,
        )

    def _save(self) -> None:
        """Keep what a restart needs; between two epochs nothing else is in flight."""
        unsaved_s = self.clock.wall_s - self._saved_at_wall_s
        if self.surroundings.checkpoint is None or unsaved_s < self.surroundings.checkpoint_every_s:
            return
        self._saved_at_wall_s = self.clock.wall_s
        checkpoint.save(
            self.surroundings.checkpoint,
            {
                "trial_id": self.trial.trial_id,
                "student": self.distiller.student.state_dict(),
                "optimizer": self.distiller.optimizer.state_dict(),
                "sampler": self.sampler.state_dict(),
                "clock": self.clock.state_dict(),
                "calibration_id": self.surroundings.calibration.calibration_id,
                **{name: getattr(self, name) for name in _COUNTERS},
            },
        )

    def _restore(self) -> None:
        path = self.surroundings.checkpoint
        if path is None or not path.exists():
            return
        state: Any = checkpoint.load(path)
        wanted = (self.trial.trial_id, self.surroundings.calibration.calibration_id)
        if not isinstance(state, dict) or (state.get("trial_id"), state.get("calibration_id")) != wanted:
            raise UserError(f"{path}: is not a checkpoint of this trial. Move it away.")
        self.distiller.student.load_state_dict(state["student"])
        self.distiller.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.clock.load_state_dict(state["clock"])
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self.loss_sum = self.loss_sum.to(self.trial.inputs.device)
        self._saved_at_wall_s = self.clock.wall_s


_COUNTERS = ("epoch", "step", "loss_sum", "loss_samples")
