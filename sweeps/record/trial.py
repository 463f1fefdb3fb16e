"""One trial on disk: its resolved config, its rows, its picks, its checkpoint, its status."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdas.errors import UserError
from kdas.files.cache import replaced_whole
from kdas.files.full import going_without, is_full, written
from kdas.files.journal import Extent, Journal
from kdas.files.record import DamagedError, read_record, write_record
from kdas.records import COMPLETE_STATUSES, FINAL_STATUSES, STOPPED_STATUSES, CurveRow, Status
from kdas.students.about import BEST, LAST, read_about, weights_file, write_about
from sweeps.record.earlier import reaches_its_end
from sweeps.record.picks import PicksFile

if TYPE_CHECKING:  # tables and tracking read directories without loading torch
    from sweeps.record.job import Job

_REMEDY = "Run the sweep again to rebuild it."


@dataclass(frozen=True)
class Recorded:
    """A curve row as recorded, with the work ledger behind its cost and the time of writing."""

    row: CurveRow
    ledger: list[list[Any]]
    recorded_at: float


@dataclass(frozen=True)
class Rebuilds:
    """How a trial had ended: its status ("" if unknown), and the number of its rows if it was stopped, else 0."""

    num_rows: int
    status: str


class TrialFolder:
    """The folder of a trial. Its status records the extent of the other files, so a truncated file is noticed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.student, self.provenance_file = path / "student", path / "provenance.json"
        self.checkpoint, self.picks = path / "checkpoint.pt", PicksFile(path / "picks.jsonl", _REMEDY)
        self._curve = Journal(path / "curve.jsonl", remedy=_REMEDY)
        self._status, self._trial = path / "status.json", path / "trial.json"
        # A second copy, because no other file tells how a trial ended.
        self._status_copy = path / "status.copy.json"

    @property
    def exists(self) -> bool:
        """Whether the trial has started. A kill at its very start leaves an empty folder."""
        return any(file.exists() for file in (self._trial, self._status, self._curve.path))

    def begin(self, job: Job) -> None:
        """Create the folder of a trial that is about to run, and remove the status of an earlier attempt."""
        self.path.mkdir(parents=True, exist_ok=True)
        if self.rebuilds is None:
            self._forget_status()
        self.describe(job)

    def describe(self, job: Job) -> None:
        """Write `trial.json`, which identifies the trial and holds its resolved config."""
        content: dict[str, Any] = {
            "method": job.method,
            "phase": job.phase,
            "config_id": job.config_id,
            "configuration": job.configuration,
        }
        if job.proposal is not None:
            of_method = {"search": job.proposal.search} if job.proposal.search else {}
            params = dict(job.proposal.params)
            content["proposal"] = {"number": job.proposal.number, "params": params, **of_method}
        write_record(self._trial, {**content, "config": job.config.model_dump(mode="json")})

    @cached_property
    def description(self) -> dict[str, Any]:
        """`method`, `phase`, `config_id`, `configuration` in words, and the resolved `config`.

        Raises: DamagedError: if it is missing or not as it was written.
        """
        needed = ("method", "phase", "config_id", "configuration", "config")
        try:
            return read_record(self._trial, *needed, remedy=_REMEDY)
        except FileNotFoundError as error:
            raise DamagedError(self._trial, "is missing", _REMEDY) from error

    def tell_provenance(self, facts: Mapping[str, str]) -> None:
        """Write where the trial's curve comes from. Nothing depends on it, so a full disk does without."""
        with going_without(self.provenance_file):
            write_record(self.provenance_file, facts)

    @property
    def provenance(self) -> dict[str, Any]:
        """Where its curve comes from; empty if that is not known."""
        try:
            return read_record(self.provenance_file, remedy=_REMEDY)
        except (FileNotFoundError, DamagedError):
            return {}

    def append(self, row: CurveRow, ledger: list[list[Any]]) -> None:
        """Append a row and flush it to disk."""
        self._curve.append([_record(Recorded(row, ledger, time.time()))])

    def rows(self) -> list[Recorded]:
        """All complete rows; an incomplete line, left by a kill, is skipped.

        Raises: DamagedError: if a row is missing or changed.
        """
        try:
            return [Recorded(CurveRow(**c["row"]), c["ledger"], c["recorded_at"]) for c in self._curve.read()]
        except (KeyError, TypeError) as error:
            raise DamagedError(self._curve.path, "holds a line that is not a row", _REMEDY) from error

    @property
    def curve_bytes(self) -> int:
        """Size of the curve file, which shows cheaply whether there are new rows."""
        return self._curve.num_bytes

    def keep_rows_up_to(self, step: int) -> int:
        """Drop rows later than this step, that of the checkpoint from which the trial resumes; 0 drops all.

        Returns: the number of rows kept.
        """
        if not self.curve_bytes:
            return 0
        kept = [recorded for recorded in self.rows() if recorded.row.step <= step] if step else []
        self.replace_rows(kept)
        return len(kept)

    def replace_rows(self, rows: list[Recorded]) -> None:
        self._curve.replace(map(_record, rows))

    def end(self, status: Status, error: str = "", why: str = "") -> None:
        """Record how the trial ended, and the extent of its files. Args: why: it was stopped, in words."""
        extents = {"curve": self._curve.extent(), "picks": self.picks.extent()}
        reason = {"why": why} if why else {}
        self._write_status({"status": status.value, "error": error, **reason, **extents})
        if status in FINAL_STATUSES:
            self.discard_checkpoint()

    def discard_student(self) -> None:
        shutil.rmtree(self.student, ignore_errors=True)

    def take_student(self, path: Path, sweep: str) -> None:
        """Copy the student of the same trial in another sweep, if it is intact. Args: sweep: the name of this one."""
        try:
            about = read_about(path)
            for name in (BEST, LAST):
                written(self.student / name, partial(_copy, path / name, self.student / name))
            for is_last in (False, True):
                weights_file(self.student, about, last=is_last)
        except (FileNotFoundError, UserError) as error:
            if is_full(error):
                raise
            # Damaged, or that sweep has just moved or removed it.
            self.discard_student()
        else:
            write_about(self.student, replace(about, sweep=self.facts_for_student(sweep)))

    def facts_for_student(self, sweep: str) -> dict[str, str]:
        """What its student tells of the sweep with this name."""
        return {"name": sweep, **{key: str(self.description[key]) for key in ("method", "phase", "configuration")}}

    def restore(self, job: Job) -> None:
        """Repair a damaged trial so that it can run again. An intact trial stays as it is."""
        damage = self.damage()
        if damage is not None and damage.path == self._trial:
            self.describe(job)
            damage = self.damage()
        if damage is not None:
            self._reopen()

    def _reopen(self) -> None:
        """Delete all that the trial has done, so that it is trained again from its beginning.

        A trial that had ended must end as before, even if its stopping rule would decide otherwise by now. So its
        status is replaced last: after a kill in between, the next start does the same again.
        """
        as_before = self._end_to_repeat()
        for file in (self._curve.path, self.picks.path):
            file.unlink(missing_ok=True)
        self.discard_checkpoint()
        if as_before is None:
            self._forget_status()
        else:
            write_record(self._status, {"status": Status.RUNNING.value, "error": "", "as_before": asdict(as_before)})
            self._status_copy.unlink(missing_ok=True)

    def _end_to_repeat(self) -> Rebuilds | None:
        """How a damaged trial must end when it is trained again; None if it had not ended."""
        try:
            content = self._read_status()
        except DamagedError:
            return Rebuilds(0, "")
        if "as_before" in content:
            return Rebuilds(**content["as_before"])
        status = content.get("status", Status.RUNNING)
        if status == Status.RUNNING:
            return None
        was_stopped = "curve" in content and status in STOPPED_STATUSES
        return Rebuilds(Extent(*content["curve"]).num_records if was_stopped else 0, status)

    def _forget_status(self) -> None:
        for file in (self._status_copy, self._status):
            file.unlink(missing_ok=True)

    def restore_status(self) -> bool:
        """Restore the status or its copy if one is damaged or missing. Returns: whether anything was restored."""
        content = self._read_status()
        if "curve" not in content or all(_is_intact(file) for file in (self._status, self._status_copy)):
            return False
        self._write_status(content)
        return True

    def _write_status(self, content: dict[str, Any]) -> None:
        for file in (self._status, self._status_copy):
            write_record(file, content)

    @property
    def rebuilds(self) -> Rebuilds | None:
        """How the trial must end if it is trained again because its files were damaged; None otherwise."""
        try:
            as_before = self._read_status().get("as_before")
        except DamagedError:
            return None
        return None if as_before is None else Rebuilds(**as_before)

    def discard_checkpoint(self) -> None:
        """Remove the newest checkpoint and the previous one."""
        for path in self.path.glob(f"{self.checkpoint.name}*"):
            path.unlink(missing_ok=True)

    @property
    def status(self) -> Status:
        """How the trial ended. With a damaged status it counts as running, and resumes from its checkpoint."""
        return self._ended()[0]

    @property
    def error(self) -> str:
        return self._ended()[1]

    @property
    def why(self) -> str:
        """Why it was stopped, in words; empty if that was not recorded."""
        try:
            return str(self._read_status().get("why", ""))
        except DamagedError:
            return ""

    @property
    def is_final(self) -> bool:
        return self.status in FINAL_STATUSES

    def damage(self) -> DamagedError | None:
        """What is wrong with the trial's files, all of which are read; None if they are as they were written."""
        try:
            self.description  # noqa: B018
            status = self._read_status()
            while fault := self._unlike_recorded(status):
                before, status = status, self._read_status()
                if status == before:  # otherwise the trial has begun again meanwhile
                    raise fault
            if status.get("status") in COMPLETE_STATUSES and "curve" not in status:
                rows = [recorded.row for recorded in self.rows()]
                if not reaches_its_end(rows, Status(status["status"]), self.description["config"], self.path):
                    raise DamagedError(self._curve.path, "ends before the trial had ended", _REMEDY)
        except DamagedError as error:
            return error
        return None

    def _unlike_recorded(self, status: Mapping[str, Any]) -> DamagedError | None:
        """The first file that is not what it was when the trial ended. Args: status: content of the status file."""
        for file, extent in ((self._curve.path, self._curve.extent()), (self.picks.path, self.picks.extent())):
            # Trials that still run, and those of earlier versions, have recorded none.
            recorded = Extent(*status.get(file.stem, extent))
            if recorded != extent:
                return DamagedError(file, _unlike(recorded, extent), _REMEDY)
        return None

    def _ended(self) -> tuple[Status, str]:
        try:
            content = self._read_status()
        except DamagedError:
            return Status.RUNNING, ""
        return (Status(content["status"]), content["error"]) if content else (Status.RUNNING, "")

    def _read_status(self) -> dict[str, Any]:
        """The content of the status file or its copy; {} if neither exists. Raises: DamagedError: if none is intact."""
        damage: DamagedError | None = None
        for file in (self._status, self._status_copy):
            try:
                content = read_record(file, "status", "error", remedy=_REMEDY)
            except FileNotFoundError:
                continue
            except DamagedError as error:
                damage = damage or error
                continue
            if content["status"] in tuple(Status):
                return content
            damage = damage or DamagedError(file, f"holds an unknown status {content['status']!r}", _REMEDY)
        if damage is not None:
            raise damage
        return {}


def _copy(source: Path, target: Path) -> None:
    with replaced_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def _unlike(recorded: Extent, extent: Extent) -> str:
    """How a file differs from what it was when its trial ended."""
    if recorded.num_records == extent.num_records:
        return "has changed since the trial ended"
    lines = f"{recorded.num_records} line{'s' if recorded.num_records != 1 else ''}"
    return f"had {lines} when the trial ended, and has {extent.num_records} now"


def _is_intact(file: Path) -> bool:
    try:
        read_record(file, "status", "error", remedy=_REMEDY)
    except (FileNotFoundError, DamagedError):
        return False
    return True


def _record(recorded: Recorded) -> dict[str, Any]:
    return {"row": recorded.row.as_dict(), "ledger": recorded.ledger, "recorded_at": recorded.recorded_at}
