"""Trains one trial and yields a curve row at every evaluation."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kdas.clock import Calibration, Clock, Work
from kdas.compute.device import repeatable, synchronize
from kdas.compute.evaluate import Quality, accuracy, quality
from kdas.compute.optimizer import set_learning_rate
from kdas.data import Draw
from kdas.errors import UnreadableError, UserError
from kdas.files import checkpoint
from kdas.files.full import going_without
from kdas.losses import LossNeed
from kdas.records import CurveRow, Status
from kdas.samplers import SAMPLERS, EpochPlan
from kdas.students.kept import BestWeights, write_student
from kdas.training.batch import Batch
from kdas.training.epoch import EpochWalk, answered_from, sampler_for
from kdas.training.flops import flops_of
from kdas.training.picks import Picks
from kdas.training.proxy import Proxy, proxy_name
from kdas.training.trial import Trial
from kdas.training.work import TrialWork

# Share of a trial's training time that writing checkpoints may take: not every short epoch gets one.
CHECKPOINT_SHARE = 0.05


@dataclass(frozen=True)
class Surroundings:
    """What a trial is told about where it runs. Nothing here but the prices may change its curve.

    `checkpoint_every_s`: least seconds of training between two checkpoints; by default it follows from
    `CHECKPOINT_SHARE`. `budget_ref_s`: what the trials of a sweep may spend, if a trial's own prices would give another
    budget. `keeps_student`: whether the best weights are kept, so that `Training.write_student` can be called.
    """

    calibration: Calibration
    checkpoint: Path | None = None
    num_cotenants: int = 0
    data_s: float = 0.0
    checkpoint_every_s: float | None = None
    budget_ref_s: float | None = None
    keeps_student: bool = False


class CheckpointError(UserError):
    """No checkpoint of the trial can be resumed from."""


class Training:
    """A trial between its first and its last step. A checkpoint holds all of its state."""

    def __init__(self, trial: Trial, surroundings: Surroundings) -> None:
        config = trial.config
        repeatable(config.threads)
        self.trial, self.surroundings = trial, surroundings
        self.distiller = trial.distiller()
        num_samples = len(trial.inputs.splits.train)
        self.clock = Clock(surroundings.calibration, partial(synchronize, trial.inputs.device))
        self.bank = trial.inputs.bank(config)
        has_proxy = proxy_name(config.sampler)
        self.proxy = Proxy(config, trial.inputs.splits, trial.inputs.device) if has_proxy else None
        work = TrialWork(self.distiller, self.bank, self.clock, self.proxy)
        self.sampler = sampler_for(config, num_samples, trial.inputs.splits.train.labels, self.clock, work)
        needs = SAMPLERS[config.sampler["name"]].needs
        self.walk = EpochWalk(self.sampler, needs, config.batch_size, self.clock, work, answered_from(config))
        self.budget_ref_s = surroundings.budget_ref_s or trial.budget_ref_s(surroundings.calibration)
        self.flops = flops_of(trial)
        self.proxy_flops = (0.0, 0.0) if self.proxy is None else self.proxy.flops()
        self.teacher_predictions = trial.inputs.teacher_predictions(config)
        self.picks = Picks(trial.inputs.splits.num_classes, config.epochs)
        self.best = BestWeights(self.distiller.evaluated) if surroundings.keeps_student else None
        self.last_row: CurveRow | None = None
        self.status = Status.RUNNING
        self.epoch = self.step = self.loss_samples = 0
        # Rows so far; None if the checkpoint is of an earlier version, which did not count them.
        self.num_rows: int | None = 0
        self.checked_ref_s = 0.0
        self.loss_sum = torch.zeros((), device=trial.inputs.device)
        self.train_loss = math.inf
        self._saved_at_wall_s = self._saving_took_s = 0.0
        if LossNeed.CLASS_MEANS in self.distiller.distillation.needs:
            # Computing class means takes one pass of the teacher over the set.
            for kind in (Work.TEACHER, Work.ASKED):
                self.clock.charge_all(kind, num_samples, config.batch_size)
        if trial.inputs.splits.reading:
            # Processes that read images start with the first batch, and their start is not training.
            next(trial.inputs.splits.training_batches([torch.arange(2)], Draw(seed=0, epoch=1)))
        if config.compile:
            self.distiller.translate()
        self._restore()

    def rows(self) -> Iterator[CurveRow]:
        """Train to the end of the schedule or of the budget."""
        # Set again: another trial may have been set up in this process in between.
        repeatable(self.trial.config.threads)
        while self.status is Status.RUNNING:
            self.epoch += 1
            for row in self._train_epoch(self.epoch):
                if self.status is not Status.RUNNING:
                    # Before the last row is yielded: the caller may stop there.
                    self.picks.end_epoch(self.epoch, ends_trial=True)
                yield row
            if self.status is Status.RUNNING:
                self.picks.end_epoch(self.epoch)
                self._save()

    def _train_epoch(self, epoch: int) -> Iterator[CurveRow]:
        config = self.trial.config
        learning_rate = set_learning_rate(self.distiller.optimizer, config.optimizer, epoch, config.epochs)
        self.clock.start()
        self.distiller.begin_epoch()
        plan = self.sampler.plan(epoch)
        plan.check(config.sampler["name"], epoch, len(self.trial.inputs.splits.train))
        plan = plan.on(self.trial.inputs.device)
        for batch, is_last in self.walk.batches(epoch, plan):
            self._train_batch(epoch, plan, batch)
            self._end_if_done(is_last and epoch == config.epochs)
            if self.status is not Status.RUNNING or self._evaluation_is_due():
                self.clock.pause()
                yield self._evaluate(plan.rate, learning_rate)
                if self.status is not Status.RUNNING:
                    return
                self.clock.start()
        self.clock.pause()
        if epoch == config.epochs:
            # No sample of the last fetched batches was chosen.
            self.status = Status.BUDGET
            yield self._evaluate(plan.rate, learning_rate)

    def _end_if_done(self, schedule_is_used_up: bool) -> None:
        if schedule_is_used_up or self.clock.cost_ref_s >= self.budget_ref_s:
            self.status = Status.BUDGET

    def _train_batch(self, epoch: int, plan: EpochPlan, batch: Batch) -> None:
        batch, loss = self.walk.train(epoch, plan, batch)
        self.picks.observe(batch.targets, None if batch.answer is None else batch.answer.logits)
        self.step += 1
        # Summed on the device: reading it every step would make the device wait.
        self.loss_sum += loss * len(batch)
        self.loss_samples += len(batch)

    def _evaluation_is_due(self) -> bool:
        """Whether the cost has passed a point of the evaluation grid, the same for all methods, since the last call."""
        interval = self.budget_ref_s / self.trial.config.evaluations

        def passed(cost: float) -> int:
            # Rounding must not move an evaluation that is due exactly at an epoch's end into the next epoch.
            return math.floor(cost / interval + 1e-9)

        before, self.checked_ref_s = self.checked_ref_s, self.clock.cost_ref_s
        return passed(self.clock.cost_ref_s) > passed(before)

    def _evaluate(self, sampling_rate: float, learning_rate: float) -> CurveRow:
        splits = self.trial.inputs.splits
        if self.loss_samples:
            self.train_loss = float(self.loss_sum) / self.loss_samples
        self.loss_sum, self.loss_samples = torch.zeros_like(self.loss_sum), 0
        with self.clock.evaluating():
            test = self._test_quality()
            own_split = splits.validation is not splits.test
            val_accuracy = self._val_accuracy() if own_split else test.accuracy
        if not math.isfinite(self.train_loss):
            self.status = Status.DIVERGED
        if self.num_rows is not None:
            self.num_rows += 1
        trained, scored, asked = (self.clock.samples(work) for work in (Work.STEP, Work.SCORE, Work.TEACHER))
        of_proxy = zip((Work.PROXY_SCORE, Work.PROXY_STEP), self.proxy_flops, strict=True)
        flops, proxy_flops = self.flops, sum(self.clock.samples(work) * each for work, each in of_proxy)
        row = CurveRow(
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
            flops=trained * flops.step + scored * flops.score + asked * flops.teacher + proxy_flops,
            cost_ref_s=self.clock.cost_ref_s,
            cost_as_run_s=self.clock.cost_as_run_s,
            wall_s=self.clock.wall_s,
            eval_s=self.clock.eval_s,
            data_s=self.surroundings.data_s,
            num_cotenants=self.surroundings.num_cotenants,
            calibration_id=self.surroundings.calibration.calibration_id,
            device=self.trial.inputs.device,
            train_loss=self.train_loss,
            val_accuracy=val_accuracy,
            test_accuracy=test.accuracy,
            sampling_rate=sampling_rate,
            learning_rate=learning_rate,
            test_top5=test.top5,
            test_nll=test.nll,
            test_calibration_error=test.calibration_error,
            test_agreement=test.agreement,
        )
        self.last_row = row
        if self.best is not None:
            self.best.observe(self.distiller.evaluated, row)
        return row

    def write_student(self, folder: Path, sweep: Mapping[str, str] | None = None) -> None:
        """Write the best and the last weights into a folder. Only for a trial that has ended and keeps its student.

        Args: sweep: what to tell of the sweep that the trial belongs to.
        """
        assert self.best is not None and self.best.row is not None and self.last_row is not None
        about = replace(self.trial.about(self.best.row, self.last_row), sweep=dict(sweep or {}))
        write_student(folder, self.best.weights, self.distiller.evaluated.state_dict(), about)

    def _val_accuracy(self) -> float:
        distiller, splits = self.distiller, self.trial.inputs.splits
        multi_crop = self.trial.config.multi_crop
        return accuracy(distiller.evaluated, splits.validation, splits, multi_crop, distiller.precision)

    def _test_quality(self) -> Quality:
        distiller, splits = self.distiller, self.trial.inputs.splits
        multi_crop, of_teacher = self.trial.config.multi_crop, self.teacher_predictions
        return quality(distiller.evaluated, splits.test, splits, multi_crop, distiller.precision, of_teacher)

    def _save(self) -> None:
        """Write a checkpoint; between two epochs there is no other state."""
        unsaved_s = self.clock.wall_s - self._saved_at_wall_s
        pause_s = self.surroundings.checkpoint_every_s
        if pause_s is None:
            pause_s = self._saving_took_s / CHECKPOINT_SHARE
        if self.surroundings.checkpoint is None or unsaved_s < pause_s:
            return
        self._saved_at_wall_s = self.clock.wall_s
        began = time.perf_counter()
        with going_without(self.surroundings.checkpoint):
            checkpoint.save_and_keep_previous(self.surroundings.checkpoint, self._state())
        self._saving_took_s = time.perf_counter() - began

    def _state(self) -> dict[str, Any]:
        return {
            "trial_id": self.trial.trial_id,
            "distiller": self.distiller.state_dict(),
            "sampler": self.sampler.state_dict(),
            "clock": self.clock.state_dict(),
            "picks": self.picks.state_dict(),
            "calibration_id": self.surroundings.calibration.calibration_id,
            "num_rows": self.num_rows,
            **({} if self.best is None else {"best": self.best.state_dict()}),
            **({} if self.proxy is None else {"proxy": self.proxy.state_dict()}),
            **{name: getattr(self, name) for name in _COUNTERS},
        }

    def _restore(self) -> None:
        path = self.surroundings.checkpoint
        try:
            state: Any = None if path is None else checkpoint.load_newest_intact(path)
        except UnreadableError:
            raise  # whoever discards damaged checkpoints must keep this one
        except UserError as error:
            raise CheckpointError(str(error)) from error
        if state is None:
            return
        wanted = (self.trial.trial_id, self.surroundings.calibration.calibration_id)
        if not isinstance(state, dict) or (state.get("trial_id"), state.get("calibration_id")) != wanted:
            raise CheckpointError(f"{path}: belongs to another trial or to other prices. Move it away.")
        if self.best is not None and "best" not in state:
            raise CheckpointError(f"{path}: lacks the best weights, since its trial kept no student. Move it away.")
        if "picks" not in state or (self.best is not None and "vectors" not in state["best"]):
            # What was trained on up to there, and the best weights, are recorded nowhere else.
            raise CheckpointError(f"{path}: was written by an earlier version of this program. Move it away.")
        self.distiller.load_state_dict(state["distiller"])
        self.sampler.load_state_dict(state["sampler"])
        if self.proxy is not None:
            self.proxy.load_state_dict(state["proxy"])
        self.clock.load_state_dict(state["clock"])
        self.picks.load_state_dict(state["picks"])
        if self.best is not None:
            self.best.load_state_dict(state["best"])
        for name in _COUNTERS:
            setattr(self, name, state[name])
        self.num_rows = state.get("num_rows")
        self.loss_sum = self.loss_sum.to(self.trial.inputs.device)
        self._saved_at_wall_s = self.clock.wall_s


_COUNTERS = ("epoch", "step", "loss_sum", "loss_samples", "train_loss", "checked_ref_s")
