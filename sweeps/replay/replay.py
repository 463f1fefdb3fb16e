"""The real engine on a simulated clock, on which each trial takes the time of its recorded curve."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from kdas.records import Status, is_searched
from sweeps.engine.agenda import Agenda
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve


@dataclass
class SimulatedClock:
    """Seconds since the sweep began. One reference second of a trial takes one second."""

    now_s: float = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class _Running:
    job: Job
    curve: Curve
    position: int = 0

    @property
    def cost_ref_s(self) -> float:
        return self.curve.rows[self.position].row.cost_ref_s


class Replay:
    """Runs an agenda as `launch.run_trials` does, with recorded curves in place of workers.

    Args: curve_of: the curve of a job's trial; slots: how many run at once; ended: called with each ended job and the
        cost of the searched trials so far, `searched_ref_s`.
    """

    def __init__(
        self,
        agenda: Agenda,
        directory: SweepDirectory,
        curve_of: Callable[[Job], Curve],
        slots: int,
        clock: SimulatedClock,
        ended: Callable[[Job, float], None] = lambda job, searched_ref_s: None,
    ) -> None:
        self._agenda, self._directory, self._curve_of, self._slots = agenda, directory, curve_of, slots
        self._clock, self._on_end = clock, ended
        self._events: list[tuple[float, int, _Running]] = []
        self._order = itertools.count()
        self.searched_ref_s = 0.0

    def run(self) -> None:
        """Play the agenda to its end."""
        while True:
            while len(self._events) < self._slots and (job := self._agenda.next_job()) is not None:
                self._start(job)
            if not self._events:
                return
            self._clock.now_s, _, trial = heapq.heappop(self._events)
            self._evaluated(trial)

    def _start(self, job: Job) -> None:
        self._directory.trial(job.trial_id).begin(job)
        trial = _Running(job, self._curve_of(job))
        self._wait(trial, trial.cost_ref_s)

    def _wait(self, trial: _Running, seconds: float) -> None:
        if is_searched(trial.job.method):
            self.searched_ref_s += seconds
        heapq.heappush(self._events, (self._clock.now_s + seconds, next(self._order), trial))

    def _evaluated(self, trial: _Running) -> None:
        row = trial.curve.rows[trial.position].row
        status = self._agenda.evaluated(trial.job, row.cost_ref_s, row.val_accuracy)
        is_last = trial.position == len(trial.curve.rows) - 1
        if status is None and not is_last:
            before = trial.cost_ref_s
            trial.position += 1
            self._wait(trial, trial.cost_ref_s - before)
            return
        folder = self._directory.trial(trial.job.trial_id)
        rows = trial.curve.rows[: trial.position + 1]
        folder.replace_rows([_of(trial.job, each) for each in rows])
        ended = status if status is not None and not is_last else trial.curve.status
        if ended is not Status.RUNNING:
            folder.end(ended, why=self._agenda.why(trial.job) if ended is status else "")
        self._agenda.ended(trial.job)
        self._on_end(trial.job, self.searched_ref_s)


def _of(job: Job, recorded: Recorded) -> Recorded:
    """A recorded row with the job's ids."""
    return replace(recorded, row=replace(recorded.row, trial_id=job.trial_id, config_id=job.config_id))
