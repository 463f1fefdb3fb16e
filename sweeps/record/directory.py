"""The sweep directory: the record from which Ray, MLflow and the search are rebuilt."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from kdas.clock import Calibration, priced, with_epochs
from kdas.errors import UserError
from kdas.files.cache import content_id, writable_folder, write_text
from kdas.files.full import is_full
from kdas.files.locks import is_held, locked
from kdas.files.prices import read_calibration
from kdas.records import COMPLETE_STATUSES, CurveRow
from kdas.students.about import read_about
from sweeps.record.paths import CELLS, MEASURE, STUDENTS, folders_in, runs_root
from sweeps.record.trial import Recorded, TrialFolder

if TYPE_CHECKING:  # tables and tracking read directories without loading torch
    from sweeps.record.job import Job


class SweepDirectory:
    """`runs/<sweep>/`, or `runs/<sweep>/cells/<cell>/`: a cell is a separate sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A cell is a folder inside its sweep's folder.
        self._is_cell = path.parent.name == CELLS and path.parent != runs_root()
        self.name = f"{path.parent.parent.name}/{path.name}" if self._is_cell else path.name
        self.spec_file = path / "sweep.yaml"
        self.study_file = self.study_file_of("")
        self.tracking_file = path / "tracking.journal"
        self.calibration_file = path / "calibration.json"
        self.measure_file = path / MEASURE
        self.inputs_file = path / "inputs.json"
        self.environment_file = path / "environment.json"
        self.spent_file = path / "spent.json"
        self.control_file = path / "control.json"
        self.bank_file = path / "bank.json"
        self.lock_file = path / ".lock"
        # The weights of the sweep's only teacher; of several, each has a file in `teachers`.
        self.teacher_file = path / "teacher.pth"
        self.teachers = path / "teachers"
        self.start_file = path / "start.pth"
        self.references = path / "references"
        self.chatter_file = path / "ray.log"
        self.report = path / "report.html"
        self.answer_file = path / "answer.json"
        self.students = path / STUDENTS

    def teacher_file_of(self, teacher: Mapping[str, Any]) -> Path:
        """Where the sweep's copy of a teacher's weights is. Args: teacher: its block, as a resolved file has it."""
        if self.teacher_file.exists():
            return self.teacher_file
        copy = Path(teacher.get("checkpoint") or "")
        return copy if copy.parent == self.teachers.absolute() else self.teachers / f"{content_id(teacher)}.pth"

    def reference_file_of(self, reference: str) -> Path:
        """Where the sweep's copy of the weights of a sampler's reference is. Args: reference: as the file names it."""
        given = Path(reference)
        return given if given.parent == self.references.absolute() else self.references / f"{content_id(reference)}.pth"

    def study_file_of(self, search: str) -> Path:
        """Proposals and results of a search. Args: search: the searched method, "" for the file's own search."""
        return self.path / ".".join(filter(None, ("search", search, "journal")))

    def study_files(self) -> list[Path]:
        """Those that exist."""
        return sorted(self.path.glob("search*.journal"))

    def price_files(self) -> list[Path]:
        """All files of prices that should be there: each is kept twice."""
        folder = self.path / "calibrations"
        return [self.calibration_file, *(sorted(folder.glob("*.json")) if folder.is_dir() else [])]

    def calibrations(self) -> dict[str, Calibration]:
        """The prices that are frozen with the sweep, by id."""
        return {kept.calibration_id: kept for kept in map(read_calibration, self.price_files()) if kept}

    def cell(self, name: str) -> SweepDirectory:
        return SweepDirectory(self.path / CELLS / name)

    def cells(self) -> list[SweepDirectory]:
        """The cells that have started, by name."""
        return [self.cell(path.name) for path in folders_in(self.path / CELLS)]

    @property
    def has_begun(self) -> bool:
        """Whether there is something that later starts must agree with."""
        return self.spec_file.exists() or next(self.trials(), None) is not None

    def trial(self, trial_id: str) -> TrialFolder:
        return TrialFolder(_trial_path(self.path, trial_id))

    def trials(self, leaving_out: AbstractSet[str] = frozenset()) -> Iterator[TrialFolder]:
        """Every trial that has started, in order of ids. Args: leaving_out: ids to skip."""
        for part in folders_in(self.path / "trials"):
            for path in folders_in(part):
                if path.name not in leaving_out and (trial := TrialFolder(path)).exists:
                    yield trial

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the sweep, which only one process may run. The operating system frees the lock when the process dies.

        Raises: UserError: if another process holds the lock, which is named, or the file system cannot hold a record.
        """
        writable_folder(self.path)
        with ExitStack() as held:
            try:
                # Not at once: those who look at the lock hold it for a moment.
                held.enter_context(locked(self.lock_file, timeout_s=1, variable="RUNS_DIR"))
            except Timeout as error:
                who = self.holder() or "another process is running this sweep"
                raise UserError(f"{self.path}: {who}. Wait for it or stop it.") from error
            _check_disk(self.path)
            write_text(self.path / ".holder", f"process {os.getpid()} on {platform.node()}\n")
            try:
                yield
            except UserError:
                self._remove_unused()
                raise

    def _remove_unused(self) -> None:
        """Remove the folder if a start that was refused has written nothing to it. Its lock is held."""
        own = {".holder", ".lock"}
        if any(path.name not in own for path in self.path.iterdir()):
            return
        with suppress(OSError):  # another process has just come
            # The lock last. Who waits for it notices that its file is gone, and makes another.
            for name in sorted(own):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()
            if self._is_cell:
                self.path.parent.rmdir()

    def holder(self) -> str:
        """The process that runs the sweep, in words; empty if there is none."""
        if not is_held(self.lock_file):
            return ""
        try:
            who = (self.path / ".holder").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            who = "another process"
        return f"{who or 'another process'} is running this sweep"

    def adopt(self, job: Job, calibration: Calibration, *, keeps_student: bool = True) -> bool:
        """Reuse a finished trial of this or another sweep. Its costs are converted to these prices.

        Args: keeps_student: also copy its student, if it kept one.
        Returns: whether one was found, so that the job need not run.
        """
        own = self.trial(job.trial_id)
        if own.exists:
            own.restore(job)
        if own.status in COMPLETE_STATUSES:
            return True
        for other in self._copies(job.trial_id):
            if other.status in COMPLETE_STATUSES and other.damage() is None:
                shutil.rmtree(own.path, ignore_errors=True)
                own.begin(job)
                own.replace_rows([_repriced(recorded, calibration) for recorded in other.rows()])
                own.picks.take_over(other.picks)
                if facts := other.provenance:
                    own.tell_provenance(facts)
                if keeps_student and (student := _student_of(other)):
                    own.take_student(student, self.name)
                own.end(other.status, other.error)
                return True
        return False

    def _copies(self, trial_id: str) -> Iterator[TrialFolder]:
        """The same trial in other sweeps and their cells, in order of the sweeps' names."""
        root = self.path.parents[2] if self._is_cell else self.path.parent
        # Called for every trial: one lookup per sweep is cheaper than a glob, which lists the folders of all sweeps.
        for sweep in folders_in(root):
            for path in [sweep, *folders_in(sweep / CELLS)]:
                folder = _trial_path(path, trial_id)
                if path != self.path and folder.exists():
                    yield TrialFolder(folder)


def _check_disk(folder: Path) -> None:
    """Try what the record needs besides locks: files that grow, and files that replace others.

    Folders of object stores that are mounted as disks often lack it.

    Raises: UserError: if it fails.
    """
    grows, replaces = folder / ".grows", folder / ".replaces"
    try:
        for text in ("one\n", "two\n"):
            with grows.open("a", encoding="utf-8") as file:
                file.write(text)
        replaces.write_text("three\n", encoding="utf-8")
        replaces.replace(grows)
        grows.unlink()
    except OSError as error:
        if is_full(error):  # which is told, and waited for, elsewhere
            return
        raise UserError(
            f"{folder}: this file system cannot append to files or replace them ({error.strerror}). Set RUNS_DIR to a"
            " folder on another disk."
        ) from error
    finally:
        for path in (grows, replaces):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _student_of(trial: TrialFolder) -> Path | None:
    """The student of a trial, which its sweep may have moved; None if it kept none."""
    if _trial_of(trial.student) == trial.path.name:
        return trial.student
    placed = trial.path.parents[2] / STUDENTS
    try:
        changed_at = placed.stat().st_mtime_ns
    except OSError:
        return None
    return _placed_students(placed, changed_at).get(trial.path.name)


@functools.lru_cache(maxsize=256)
def _placed_students(folder: Path, changed_at: int) -> dict[str, Path]:
    """The students in a sweep's `students/` by their trials, read once until one is added or removed.

    Args: changed_at: when the folder last changed, which tells a later content from an earlier one.
    """
    return {trial_id: path for path in folders_in(folder) if (trial_id := _trial_of(path))}


def _trial_of(student: Path) -> str:
    """The id of a student's trial; "" if there is no intact student."""
    with suppress(UserError):
        return read_about(student).trial_id
    return ""


def _trial_path(sweep: Path, trial_id: str) -> Path:
    """The folder of a trial. The ids' first two letters make 256 folders, since a single one would be slow to list."""
    return sweep / "trials" / trial_id[:2] / trial_id


def _repriced(recorded: Recorded, calibration: Calibration) -> Recorded:
    if recorded.row.calibration_id == calibration.calibration_id:
        return recorded
    ledger = with_epochs(recorded.ledger, recorded.row.epoch)
    alone_s, as_run_s = priced(ledger, calibration)
    content = recorded.row.as_dict()
    content.update(cost_ref_s=alone_s, cost_as_run_s=as_run_s, calibration_id=calibration.calibration_id)
    return Recorded(CurveRow(**content), ledger, recorded.recorded_at)  # type: ignore[arg-type]
