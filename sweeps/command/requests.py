"""What a user may ask of a sweep: pause, resume, stop a trial, finish the search. Each answers with a line."""

from __future__ import annotations

import re
from dataclasses import replace

from kdas.errors import UserError, alike, make_command
from kdas.records import Status, is_searched
from sweeps.record.control import change_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import has_certain_time, has_finished, known_measure
from sweeps.record.paths import CONFIRM
from sweeps.record.trial import TrialFolder

_TRIAL_ID = re.compile(r"\w+-s\d+")


def pause(directory: SweepDirectory) -> str:
    """Start no more trials. Raises: UserError: if the sweep does not run."""
    _must_run(directory, "pause")
    change_requests(directory, lambda asked: replace(asked, is_paused=True))
    return (
        f"{directory.name}: no more trials start; those under way run to their end. Continue:"
        f" {make_command('resume', directory.name)}"
    )


def resume(directory: SweepDirectory) -> str:
    """End a pause. Raises: UserError: if the sweep does not run."""
    _must_run(directory, "resume")
    change_requests(directory, lambda asked: replace(asked, is_paused=False))
    return f"{directory.name}: trials start again"


def finish(directory: SweepDirectory) -> str:
    """End the search, and a pause, which would keep the confirmation from starting.

    Raises: UserError: if the sweep has finished: it would be marked as cut short.
    """
    if has_finished(known_measure(directory)):
        raise UserError(f"{directory.name} has already finished; nothing to end.")
    change_requests(directory, lambda asked: replace(asked, is_paused=False, finishes=True, finished_at=None))
    when = "now" if directory.holder() else "as soon as the sweep runs"
    return f"{directory.name}: the search ends {when}; the confirmation and the report follow"


def stop(directory: SweepDirectory, trial_id: str) -> str:
    """Stop a trial of the search early.

    Raises: UserError: if there is no such trial, if it has ended, or if it is a baseline or of the confirmation.
    """
    folder = directory.trial(trial_id)
    # An id, not a path that leads elsewhere.
    if not _TRIAL_ID.fullmatch(trial_id) or not folder.exists:
        stoppable = [each.path.name for each in directory.trials() if _can_stop(each)]
        near = alike(trial_id, stoppable)[:1]
        hint = f"Did you mean {near[0]}?" if near else f"Of the search, under way: {', '.join(stoppable) or 'none'}."
        raise UserError(f"{directory.name}: no trial {trial_id!r}. {hint}")
    what = folder.description
    if what["phase"] == CONFIRM or not is_searched(what["method"]):
        kind = "of the confirmation" if what["phase"] == CONFIRM else f"of the baseline {what['method']}"
        raise UserError(
            f"{directory.name}: trial {trial_id} is {kind}, and the answer needs it whole. Stop trials of the search."
        )
    if folder.status is not Status.RUNNING:
        raise UserError(f"{directory.name}: trial {trial_id} has ended as {folder.status}. Nothing to stop.")
    change_requests(directory, lambda asked: replace(asked, stopped=tuple(dict.fromkeys((*asked.stopped, trial_id)))))
    when = "at its next evaluation" if directory.holder() else "when the sweep is next run, before it trains again"
    measure = known_measure(directory)
    if measure is not None and has_certain_time(folder, measure):
        means = "it has reached the target, so its time counts, and other seeds of its configuration still run"
    else:
        means = "its configuration cannot win, and does not start on further seeds; stop those that run one by one"
    return f"{directory.name}: trial {trial_id} stops {when}; {means}"


def _can_stop(folder: TrialFolder) -> bool:
    what = folder.description
    return folder.status is Status.RUNNING and what["phase"] != CONFIRM and is_searched(what["method"])


def _must_run(directory: SweepDirectory, what: str) -> None:
    if not directory.holder():
        if has_finished(known_measure(directory)):
            raise UserError(f"{directory.name} has already finished; nothing to {what}.")
        raise UserError(
            f"{directory.name}: does not run, so there is nothing to {what}. Start it:"
            f" {make_command('sweep', directory.name)}"
        )
