"""The Ray side of a trial: a worker that stays warm from trial to trial."""

from __future__ import annotations

import functools
import json
import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ray import tune

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.files.full import is_full
from kdas.parts.plugins import SEARCHED_FOLDERS, failure, is_own_exit, search_also
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import TeacherConfig
from kdas.records import CurveRow, Status
from kdas.samplers import SamplerNeed, network_of
from kdas.teacher.obtain import obtain
from kdas.training.provenance import provenance
from kdas.training.trainer import CheckpointError, Surroundings, Training
from kdas.training.trial import Inputs, Trial, load_inputs
from sweeps.command.options import cluster_address
from sweeps.engine.slots import Slots
from sweeps.execution.devices import Lease, visible_gpus
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.trial import Rebuilds, TrialFolder

# In the result of a step that could not write its record: the folder whose disk is full.
NO_ROOM = "no_room"
# Between two tries to write.
FULL_PAUSE_S = 2.0
# Of this worker's process, so of all trials that it runs.
_LEASE = Lease(str(os.getpid()))


def ray_config(
    job: Job,
    directory: SweepDirectory,
    calibration: Calibration,
    budget_ref_s: float,
    slots: Slots,
    *,
    keeps_student: bool = False,
) -> dict[str, Any]:
    """What a worker needs to run a job, in plain values."""
    # The sweep's own copies: the cache of another machine may lack a teacher, or hold one that was trained there,
    # and files that were given may be moved while the sweep runs.
    members = [_from_copy(member, directory) for member in job.config.teacher.members]
    config = job.config.model_dump(mode="json")
    if config["student_checkpoint"] and directory.start_file.exists():
        config["student_checkpoint"] = str(directory.start_file)
    reference = network_of(config["sampler"], SamplerNeed.REFERENCE_LOGITS)
    if reference and (kept := directory.reference_file_of(reference)).exists():
        config["sampler"]["reference"] = str(kept)
    return {
        "config": config,
        "module_folders": list(SEARCHED_FOLDERS),
        "method": job.method,
        "phase": job.phase,
        "config_id": job.config_id,
        "folder": str(directory.trial(job.trial_id).path),
        "teacher": job.config.teacher.with_members(members).model_dump(mode="json"),
        "calibration": calibration.as_dict(),
        "budget_ref_s": budget_ref_s,
        "num_cotenants": slots.num_cotenants,
        "cpus": slots.cpus_per_trial,
        "gpus": slots.gpus_per_trial,
        "sweep": directory.name if keeps_student else None,
        # One Ray for the whole cluster knows what is in use.
        "devices": visible_gpus() if slots.gpus_per_trial and not cluster_address() else [],
    }


def _from_copy(teacher: TeacherConfig, directory: SweepDirectory) -> TeacherConfig:
    """The teacher with the sweep's copy as its checkpoint, if there is one."""
    kept = directory.teacher_file_of(teacher.model_dump(mode="json"))
    if not kept.exists():
        return teacher
    return teacher.model_copy(update={"checkpoint": str(kept)})


def job_of(config: dict[str, Any]) -> Job:
    """The job that `ray_config` described."""
    search_also(config["module_folders"])
    return Job(config["method"], config["phase"], TrialConfig(**config["config"]), config["config_id"])


@functools.lru_cache(maxsize=1)
def _warm(data: str) -> dict[str, tuple[Inputs, float]]:
    """What a worker keeps from trial to trial: data, with each teacher that its trials have had, by its block."""
    return {}


def _warm_inputs(shared: Mapping[str, Any]) -> tuple[Inputs, float]:
    """Data and teacher, loaded by the first trial that needs them, and the seconds that loading took.

    Args: shared: what inputs depend on. Trials with another teacher share the data.
    """
    known = _warm(json.dumps({key: value for key, value in shared.items() if key != "teacher"}))
    teacher = json.dumps(shared["teacher"])
    if teacher not in known:
        began, config = time.perf_counter(), TrialConfig(**shared)
        if known:
            first, _ = next(iter(known.values()))
            of_data = (first.dataset, config.validation, first.splits, first.device)
            loaded = replace(first, teacher=obtain(config.teacher, *of_data))
        else:
            loaded = load_inputs(config)
        known[teacher] = (loaded, time.perf_counter() - began)
    return known[teacher]


class TrialActor(tune.Trainable):
    """One step is one evaluation. The trial's folder is the record; Ray is told only what it needs for scheduling.

    Nothing happens before the first step: Ray also sets up workers for trials that a warm worker then takes over,
    and those must not touch the trial's folder.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self._config = config
        self._folder = TrialFolder(Path(config["folder"]))
        self._training: Training | None = None
        self._rows: Iterator[CurveRow] = iter(())
        self._num_windows = self._num_rows = 0
        self._rebuilds: Rebuilds | None = None
        self._last: dict[str, Any] = {"cost_ref_s": 0.0, "val_accuracy": 0.0, "done": False}
        self._to_write: list[Callable[[], None]] = []

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        with self._crashes_recorded():
            try:
                return self._evaluated()
            except (OSError, UserError) as error:
                if not is_full(error):
                    raise
        # The driver says so; a short step, so that it need not wait for this worker.
        time.sleep(FULL_PAUSE_S)
        return {**self._last, "done": False, NO_ROOM: str(self._folder.path)}

    def _evaluated(self) -> dict[str, Any]:
        """The next evaluation, once its record is on the disk. Raises: OSError: if that is full; then call again."""
        training = self._training or self._begin()
        if not self._to_write:
            row = next(self._rows)
            self._num_rows += 1
            is_done = training.status is not Status.RUNNING
            self._last = {"cost_ref_s": row.cost_ref_s, "val_accuracy": row.val_accuracy, "done": is_done}
            append = functools.partial(self._folder.append, row, training.clock.ledger())
            self._to_write = [append, functools.partial(self._record_picks, training)]
            if training.status is Status.BUDGET and training.best is not None:
                sweep = self._folder.facts_for_student(self._config["sweep"])
                self._to_write.append(functools.partial(training.write_student, self._folder.student, sweep))
            if is_done:
                self._to_write.append(functools.partial(self._folder.end, training.status))
            elif self._rebuilds is not None and self._num_rows == self._rebuilds.num_rows:
                self._to_write.append(functools.partial(self._folder.end, Status(self._rebuilds.status)))
                self._last["done"] = True
        while self._to_write:
            self._to_write[0]()
            self._to_write.pop(0)
        return self._last

    def cleanup(self) -> None:
        _LEASE.give_back()

    def _begin(self) -> Training:
        _LEASE.take(self._config["gpus"], self._config["devices"])
        config = job_of(self._config).config
        # Only what inputs depend on, so that trials that differ elsewhere share them.
        of_inputs = {"dataset", "validation", "teacher", "student", "student_checkpoint", "device", "data_workers"}
        shared = config.model_dump(mode="json", include=of_inputs)
        shared["teacher"] = self._config["teacher"]
        inputs, data_s = _warm_inputs(shared)
        calibration = Calibration.from_dict(self._config["calibration"])
        surroundings = Surroundings(
            calibration,
            self._folder.checkpoint,
            self._config["num_cotenants"],
            data_s,
            budget_ref_s=self._config["budget_ref_s"],
            keeps_student=self._config["sweep"] is not None,
        )
        trial = Trial(config, inputs)
        self._folder.tell_provenance(provenance(inputs.device))
        training = self._training_of(trial, surroundings)
        num_kept = self._folder.keep_rows_up_to(training.step)
        if training.num_rows not in (None, num_kept):
            # Rows that the checkpoint knows of are lost: the trial is trained from its beginning.
            self._folder.discard_checkpoint()
            training = Training(trial, surroundings)
            self._folder.keep_rows_up_to(0)
        self._folder.picks.keep(training.picks.windows)
        self._num_windows, self._num_rows = len(training.picks.windows), training.num_rows or num_kept
        self._rebuilds = self._folder.rebuilds
        self._training, self._rows = training, training.rows()
        return training

    def _record_picks(self, training: Training) -> None:
        windows = training.picks.windows
        self._folder.picks.append(windows[self._num_windows :])
        self._num_windows = len(windows)

    def _training_of(self, trial: Trial, surroundings: Surroundings) -> Training:
        try:
            return Training(trial, surroundings)
        except CheckpointError as error:
            # The sweep owns its checkpoints: if none is intact, it trains the trial from the beginning.
            warnings.warn(f"{error} Training this trial from the beginning.", stacklevel=2)
            self._folder.discard_checkpoint()
            return Training(trial, surroundings)

    @contextmanager
    def _crashes_recorded(self) -> Iterator[None]:
        """Write the traceback into the trial's folder and re-raise the exception, so that Ray replaces the worker."""
        try:
            yield
        except (MemoryError, torch.OutOfMemoryError):
            # The trial is not to blame: it is retried beside fewer others, as if its worker had been lost.
            raise
        except SystemExit as error:
            if not is_own_exit(error):
                raise
            # Ray would take it for a lost worker, and the trial would be retried.
            self._record_crash(f"your own code ended the process: {failure(error)}. Raise an error instead.")
            raise RuntimeError("code of a trial asked for the end of its process") from error
        except Exception:
            self._record_crash(traceback.format_exc())
            raise

    def _record_crash(self, text: str) -> None:
        try:
            self._folder.end(Status.CRASHED, text)
        except (OSError, UserError) as error:
            if not is_full(error):  # on a full disk it counts as a worker that was lost
                raise
