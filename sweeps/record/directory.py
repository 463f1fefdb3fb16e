"""The sweep directory: the record from which Ray, MLflow and the search are rebuilt."""

from __future__ import annotations

import json
import os
import platform
import shutil
import time
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from kdas.clock import Calibration, priced
from kdas.errors import UserError
from kdas.files.cache import writable_folder, write_text
from kdas.files.journal import Journal
from kdas.records import COMPLETE_STATUSES, FINAL_STATUSES, CurveRow, Status
from sweeps.record.paths import CELLS, MEASURE, runs_root
from sweeps.record.picks import PicksFile

if TYPE_CHECKING:  # tables and tracking read directories without loading torch
    from sweeps.record.job import Job


@dataclass(frozen=True)
class Recorded:
    """A curve row as recorded, with the work ledger behind its cost and the time of writing."""

    row: CurveRow
    ledger: list[list[Any]]
    recorded_at: float


class TrialFolder:
    """One trial on disk: its resolved config, its rows, its picks, its checkpoint, its status."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint, self.picks = path / "checkpoint.pt", PicksFile(path / "picks.jsonl")
        self._curve = Journal(path / "curve.jsonl")
        self._status, self._trial = path / "status.json", path / "trial.json"

    def begin(self, job: Job) -> None:
        """Create the folder of a trial that is about to run, and remove the status of an earlier attempt."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._status.unlink(missing_ok=True)
        content = {
            "method": job.method,
            "phase": job.phase,
            "config_id": job.config_id,
            "configuration": job.configuration,
        }
        write_text(self._trial, json.dumps({**content, "config": job.config.model_dump(mode="json")}, indent=1))

    @cached_property
    def description(self) -> dict[str, Any]:
        """`method`, `phase`, `config_id`, `configuration` in words, and the resolved `config`."""
        content: dict[str, Any] = json.loads(self._trial.read_text(encoding="utf-8"))
        return content

    def append(self, row: CurveRow, ledger: list[list[Any]]) -> None:
        """Add a row and flush it to disk."""
        self._curve.append([_record(Recorded(row, ledger, time.time()))])

    def rows(self) -> list[Recorded]:
        """All complete rows; an incomplete line, left by a kill, is skipped."""
        return [Recorded(CurveRow(**c["row"]), c["ledger"], c["recorded_at"]) for c in self._curve.read()]

    @property
    def curve_bytes(self) -> int:
        """Size of the curve file, which shows cheaply whether there are new rows."""
        return self._curve.num_bytes

    def keep_rows_up_to(self, step: int) -> None:
        """Drop rows later than this step, that of the checkpoint from which the trial resumes; 0 drops all."""
        if not self.curve_bytes:
            return
        kept = [recorded for recorded in self.rows() if recorded.row.step <= step]
        self.replace_rows(kept)

    def replace_rows(self, rows: list[Recorded]) -> None:
        self._curve.replace(map(_record, rows))

    def end(self, status: Status, error: str = "") -> None:
        write_text(self._status, json.dumps({"status": status.value, "error": error}))
        if status in FINAL_STATUSES:
            self.discard_checkpoint()

    def discard_checkpoint(self) -> None:
        """Remove the newest checkpoint and the previous one."""
        for path in self.path.glob(f"{self.checkpoint.name}*"):
            path.unlink(missing_ok=True)

    @property
    def status(self) -> Status:
        return self._read_status()[0]

    @property
    def error(self) -> str:
        return self._read_status()[1]

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    def _read_status(self) -> tuple[Status, str]:
        try:
            content = json.loads(self._status.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Status.RUNNING, ""
        return Status(content["status"]), content["error"]


class SweepDirectory:
    """`runs/<sweep>/`, or `runs/<sweep>/cells/<cell>/`: a cell is a separate sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A cell is a folder inside its sweep's folder.
        self._is_cell = path.parent.name == CELLS and path.parent != runs_root()
        self.name = f"{path.parent.parent.name}/{path.name}" if self._is_cell else path.name
        self.spec_file = path / "sweep.yaml"
        self.study_file = path / "search.journal"
        self.tracking_file = path / "tracking.journal"
        self.calibration_file = path / "calibration.json"
        self.measure_file = path / MEASURE
        self.inputs_file = path / "inputs.json"
        self.environment_file = path / "environment.json"
        self.spent_file = path / "spent.json"
        self.teacher_file = path / "teacher.pth"
        self.chatter_file = path / "ray.log"
        self.report = path / "report.html"

    def cell(self, name: str) -> SweepDirectory:
        return SweepDirectory(self.path / CELLS / name)

    def cells(self) -> list[SweepDirectory]:
        """The cells that have started, by name."""
        folder = self.path / CELLS
        return [self.cell(path.name) for path in sorted(folder.iterdir()) if path.is_dir()] if folder.is_dir() else []

    def trial(self, trial_id: str) -> TrialFolder:
        return TrialFolder(_trial_path(self.path, trial_id))

    def trials(self, leaving_out: AbstractSet[str] = frozenset()) -> Iterator[TrialFolder]:
        """Every trial that has started, in order of ids. Args: leaving_out: ids to skip."""
        folder = self.path / "trials"
        parts = sorted(folder.iterdir()) if folder.is_dir() else []
        for part in parts:
            for name in sorted({path.name for path in part.iterdir()} - leaving_out):
                if (part / name / "trial.json").exists():
                    yield TrialFolder(part / name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the sweep, which only one process may run. The operating system frees the lock when the process dies.

        Raises: UserError: if another process holds the lock; names that process.
        """
        writable_folder(self.path)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            who = self.holder() or "another process is running this sweep"
            raise UserError(f"{self.path}: {who}. Wait for it or stop it.") from error
        try:
            write_text(self.path / ".holder", f"process {os.getpid()} on {platform.node()}\n")
            yield
        finally:
            lock.release()

    def holder(self) -> str:
        """The process that runs the sweep, in words; empty if there is none."""
        if not self.path.is_dir():
            return ""
        lock = FileLock(self.path / ".lock")
        try:
            with lock.acquire(blocking=False):
                return ""
        except Timeout:
            file = self.path / ".holder"
            who = file.read_text(encoding="utf-8").strip() if file.exists() else "another process"
            return f"{who} is running this sweep"
        except OSError:  # the directory is read-only
            return ""

    def adopt(self, job: Job, calibration: Calibration) -> bool:
        """Reuse a finished trial of this or another sweep. Its costs are converted to these prices.

        Returns: whether one was found, so that the job need not run.
        """
        own = self.trial(job.trial_id)
        if own.status in COMPLETE_STATUSES:
            return True
        for other in self._copies(job.trial_id):
            if other.status in COMPLETE_STATUSES:
                shutil.rmtree(own.path, ignore_errors=True)
                own.begin(job)
                own.replace_rows([_repriced(recorded, calibration) for recorded in other.rows()])
                own.picks.take_over(other.picks)
                own.end(other.status, other.error)
                return True
        return False

    def _copies(self, trial_id: str) -> Iterator[TrialFolder]:
        """The same trial in other sweeps and their cells, in order of the sweeps' names."""
        root = self.path.parents[2] if self._is_cell else self.path.parent
        # Called for every trial: one lookup per sweep is cheaper than a glob, which lists the folders of all sweeps.
        for sweep in sorted(root.iterdir()):
            cells = sweep / CELLS
            for path in [sweep, *(sorted(cells.iterdir()) if cells.is_dir() else [])]:
                folder = _trial_path(path, trial_id)
                if path != self.path and folder.exists():
                    yield TrialFolder(folder)


def _record(recorded: Recorded) -> dict[str, Any]:
    return {"row": recorded.row.as_dict(), "ledger": recorded.ledger, "recorded_at": recorded.recorded_at}


def _trial_path(sweep: Path, trial_id: str) -> Path:
    """The folder of a trial. The ids' first two letters make 256 folders, since a single one would be slow to list."""
    return sweep / "trials" / trial_id[:2] / trial_id


def _repriced(recorded: Recorded, calibration: Calibration) -> Recorded:
    if recorded.row.calibration_id == calibration.calibration_id:
        return recorded
    alone_s, as_run_s = priced(recorded.ledger, calibration)
    content = recorded.row.as_dict()
    content.update(cost_ref_s=alone_s, cost_as_run_s=as_run_s, calibration_id=calibration.calibration_id)
    return Recorded(CurveRow(**content), recorded.ledger, recorded.recorded_at)  # type: ignore[arg-type]
