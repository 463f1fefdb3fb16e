"""`control.json`: what users ask of a sweep. Commands write it; the process that runs the sweep reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdas.files.locks import locked
from kdas.files.record import DamagedError, read_record, write_record
from kdas.records import FINAL_STATUSES, Status
from sweeps.record.directory import SweepDirectory

REMEDY = "Delete it, then ask again what you had asked: to finish the search, or to add a configuration."


@dataclass(frozen=True)
class Requests:
    """What users have asked and what still applies.

    `is_paused`: no trial starts. `stopped`: ids of trials of the search that end at their next evaluation;
    `were_stopped`: ids of those that an earlier start has ended so, for the report.
    `finishes`: the search proposes nothing more. `finished_at`: the number of configurations that the sweep was to
    search when it heard of that; None before. `added`: configurations that the search tries besides those of the file;
    `configurations`: how many it searches at least, since some were added.
    """

    is_paused: bool = False
    stopped: tuple[str, ...] = ()
    finishes: bool = False
    finished_at: int | None = None
    added: tuple[Mapping[str, Any], ...] = ()
    configurations: int | None = None
    were_stopped: tuple[str, ...] = ()


def read_requests(directory: SweepDirectory) -> Requests:
    """What applies now. Raises: DamagedError: if the file is not as it was written."""
    try:
        content = read_record(directory.control_file, "paused", "stopped", "finish", "finished_at", remedy=REMEDY)
    except FileNotFoundError:
        return Requests()
    numbers = [content["finished_at"], content.get("configurations")]
    lists = [content["stopped"], content.get("added", []), content.get("were_stopped", [])]
    if not all(isinstance(each, list) for each in lists) or not all(isinstance(each, int | None) for each in numbers):
        raise DamagedError(directory.control_file, "is damaged", REMEDY)
    (stopped, added, were_stopped), (finished_at, configurations) = lists, numbers
    return Requests(
        bool(content["paused"]),
        tuple(map(str, stopped)),
        bool(content["finish"]),
        finished_at,
        tuple(added),
        configurations,
        tuple(map(str, were_stopped)),
    )


def change_requests(directory: SweepDirectory, change: Callable[[Requests], Requests]) -> Requests:
    """Replace what applies. Several processes may do so at the same time. Raises: DamagedError: as `read_requests`."""
    with locked(directory.path / ".control.lock", variable="RUNS_DIR"):
        before = read_requests(directory)
        now = change(before)
        if now != before:
            content: dict[str, Any] = {"paused": now.is_paused, "stopped": list(now.stopped)}
            content |= {"finish": now.finishes, "finished_at": now.finished_at}
            content |= {"added": list(now.added), "configurations": now.configurations}
            content |= {"were_stopped": list(now.were_stopped)}
            write_record(directory.control_file, content)
    return now


def end_pause(directory: SweepDirectory) -> bool:
    """Forget a pause, which ends with the process that was paused, and requests to stop trials that have ended.

    Which trials have ended because of such a request is kept.

    Returns: whether the sweep was paused.
    """
    if not directory.control_file.exists():
        return False
    was_paused = read_requests(directory).is_paused

    def begin(asked: Requests) -> Requests:
        ended = {trial_id: directory.trial(trial_id).status for trial_id in asked.stopped}
        still = tuple(trial_id for trial_id, status in ended.items() if status not in FINAL_STATUSES)
        stopped = (trial_id for trial_id, status in ended.items() if status is Status.STOPPED_EARLY)
        were_stopped = tuple(dict.fromkeys((*asked.were_stopped, *stopped)))
        return replace(asked, is_paused=False, stopped=still, were_stopped=were_stopped)

    change_requests(directory, begin)
    return was_paused


def keep_added(directory: SweepDirectory, points: Sequence[Mapping[str, Any]], num_configurations: int) -> None:
    """Record configurations that were added, and that a search which was finished early continues with them.

    Args: num_configurations: how many are searched with them.
    """

    def add(asked: Requests) -> Requests:
        more = replace(asked, added=(*asked.added, *points), configurations=num_configurations)
        return replace(more, finishes=False, finished_at=None)

    change_requests(directory, add)


def taken_up(directory: SweepDirectory, num_configurations: int) -> Requests:
    """What applies to a sweep that is to search this many configurations, which is recorded.

    A request to finish is dropped if the sweep was to search fewer when it heard of it: the user wants more by now.
    """

    def settle(asked: Requests) -> Requests:
        at = num_configurations if asked.finished_at is None else asked.finished_at
        if asked.finishes and num_configurations <= at:
            return replace(asked, finished_at=at)
        return replace(asked, finishes=False, finished_at=None)

    return change_requests(directory, settle) if directory.control_file.exists() else Requests()
