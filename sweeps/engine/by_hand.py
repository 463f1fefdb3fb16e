"""Trials that users stop, and what else does not start because of that."""

from __future__ import annotations

from kdas.records import FINAL_STATUSES, Measure, Status
from sweeps.record.control import Requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import has_certain_time
from sweeps.record.trial import TrialFolder


class StoppedByHand:
    """Which trials of the search a user has asked to stop.

    A configuration with such a trial cannot be chosen, unless that trial's time was certain before. So its seeds that
    have not begun are not needed.
    """

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._stopped: frozenset[str] = frozenset()
        self._given_up: frozenset[str] = frozenset()

    def heed(self, asked: Requests, measure: Measure | None) -> None:
        """Follow what users ask from now on."""
        self._stopped = frozenset(asked.stopped)
        trials = map(self._directory.trial, {*asked.stopped, *asked.were_stopped})
        self._given_up = frozenset(_config_id(trial) for trial in trials if _cannot_be_chosen(trial, measure))

    def stops(self, job: Job) -> bool:
        """Whether a user has asked to stop the job."""
        return job.trial_id in self._stopped

    def gives_up(self, job: Job) -> bool:
        """Whether another seed of the job's configuration was stopped, so that this one need not start."""
        return job.config_id in self._given_up


def _config_id(trial: TrialFolder) -> str:
    return trial.path.name.rpartition("-s")[0]


def _cannot_be_chosen(trial: TrialFolder, measure: Measure | None) -> bool:
    if trial.status in FINAL_STATUSES and trial.status is not Status.STOPPED_EARLY:
        return False  # it had ended before it could be stopped
    return measure is None or not has_certain_time(trial, measure)
