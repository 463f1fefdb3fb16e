"""TensorBoard's event files in the sweep directory: a folder for each trial."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import hparams, scalar

from kdas.files.cache import write_text
from kdas.files.record import DamagedError
from kdas.records import Measure, Status
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure, time_to_target
from sweeps.record.trial import Recorded, TrialFolder

FOLDER = "tensorboard"
# Beside the events of a trial that was written to its end: the size of its curve, so that a changed one is noticed.
_COMPLETE = "complete"
_METRICS = ("val_accuracy", "test_accuracy", "train_loss", "cost_ref_s", "sampling_rate", "learning_rate")
_TIME = "tta_or_budget_ref_s"
_MS_PER_S = 1000


@dataclass
class _Open:
    """A trial whose events are being written, and how many of its rows were."""

    # Not `SummaryWriter`: its events pass through another thread, and its flush does not wait for them.
    writer: EventsWriter
    num_rows: int = 0


@dataclass
class TensorBoard:
    """Writes `RUNS_DIR/<sweep>/tensorboard/<method>/<trial_id>/`.

    The files can only grow, so a trial that is incomplete there is written again at each start, from its curve.
    """

    directory: SweepDirectory
    _open: dict[str, _Open] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)

    def update(self) -> None:
        """Write the rows that are new. A trial is complete once it has ended and the target is known."""
        measure = read_measure(self.directory)
        for trial in self.directory.trials(leaving_out=self._settled):
            with suppress(DamagedError):  # other commands report it, and the next start trains the trial again
                self._write(trial, measure)

    def leave(self) -> None:
        """Close the files. What is missing is written at the next start."""
        for opened in self._open.values():
            opened.writer.close()
        self._open.clear()

    def sync(self) -> str:
        """Write what is missing of a sweep that is not running."""
        self.update()
        self.leave()
        return f"TensorBoard's files in {self.directory.path / FOLDER} (tensorboard --logdir, or any viewer)"

    def _write(self, trial: TrialFolder, measure: Measure | None) -> None:
        folder = self._folder(trial)
        mark, size = folder / _COMPLETE, trial.curve_bytes
        status = trial.status
        if mark.exists() and mark.read_text(encoding="ascii") == str(size):
            if status is not Status.CAPPED:  # this start may train it after all
                self._settled.add(trial.path.name)
            return
        rows = trial.rows()
        opened = self._opened(trial, folder, len(rows))
        for recorded in rows[opened.num_rows :]:
            _add(opened.writer, recorded)
        opened.num_rows = len(rows)
        opened.writer.flush()
        if status is not Status.RUNNING and measure is not None:
            _conclude(opened.writer, trial, rows, measure)
            opened.writer.close()
            del self._open[trial.path.name]
            write_text(mark, str(size))

    def _opened(self, trial: TrialFolder, folder: Path, num_rows: int) -> _Open:
        """The trial's events, begun again by each start, and if the trial itself has begun again."""
        opened = self._open.get(trial.path.name)
        if opened is None or num_rows < opened.num_rows:
            if opened is not None:
                opened.writer.close()
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            opened = self._open[trial.path.name] = _Open(EventsWriter(str(folder / "events")))
        return opened

    def _folder(self, trial: TrialFolder) -> Path:
        # TensorBoard names a run after its folder, and filters names by a pattern, as `kdas_search/.*`.
        method = str(trial.description["method"]).replace("/", "_")
        return self.directory.path / FOLDER / method / trial.path.name


def _add(writer: EventsWriter, recorded: Recorded) -> None:
    """Each metric over steps, and the accuracies over reference time too: in milliseconds, as steps are whole."""
    row = recorded.row
    for name in _METRICS:
        _write(writer, scalar(name, getattr(row, name)), row.step, recorded.recorded_at)
    ref_ms = round(row.cost_ref_s * _MS_PER_S)
    for name in ("val_accuracy", "test_accuracy"):
        _write(writer, scalar(f"over_ref_ms/{name}", getattr(row, name)), ref_ms, recorded.recorded_at)


def _conclude(writer: EventsWriter, trial: TrialFolder, rows: Sequence[Recorded], measure: Measure) -> None:
    """The trial's time, where a miss counts as the full budget, and its settings, for TensorBoard's table of both."""
    time_s = min(time_to_target(rows, measure.target), measure.budget_ref_s)
    description = trial.description
    settings = {name: description[name] for name in ("method", "configuration", "phase")}
    # Into the same file, unlike `add_hparams`, which would add a run.
    for summary in hparams({**settings, "seed": description["config"]["seed"]}, {_TIME: time_s}):
        _write(writer, summary, 0, time.time())
    _write(writer, scalar(_TIME, time_s), rows[-1].row.step if rows else 0, time.time())


def _write(writer: EventsWriter, summary: Summary, step: int, at: float) -> None:
    writer.write_event(Event(wall_time=at, step=step, summary=summary))
