"""Early stopping of a sweep: which jobs a rule may stop, and what it is told."""

from __future__ import annotations

from collections.abc import Sequence

from kdas.records import COMPLETE_STATUSES, STOPPED_STATUSES, Status, is_searched
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.paths import CONFIRM
from sweeps.stopping import HoldsTrials, StoppingRule


def may_stop(job: Job) -> bool:
    """Baselines and confirmation runs always finish: their numbers are the result."""
    return is_searched(job.method) and job.phase != CONFIRM


class EarlyStopping:
    """Tells a stopping rule about the trials of one search, which it may stop, and only about those."""

    def __init__(self, rule: StoppingRule, directory: SweepDirectory) -> None:
        self._rule, self._directory = rule, directory
        self._holding = rule if isinstance(rule, HoldsTrials) else None
        self._known: set[str] = set()

    @property
    def status(self) -> Status:
        """The status of a stopped trial."""
        return self._rule.status

    def knows(self, job: Job) -> bool:
        """Whether the job is of this search and may be stopped."""
        return may_stop(job) and job.config_id in self._known

    def take_in(self, jobs: Sequence[Job]) -> None:
        """Add a configuration that will be trained, with the evaluations that earlier starts or other sweeps made."""
        # A configuration that equals a baseline is confirmed anyway, so it must not take the place of another.
        if not is_searched(jobs[0].method):
            return
        self._known.add(jobs[0].config_id)
        self._rule.add(jobs[0].config_id, [job.trial_id for job in jobs])
        for job in jobs:
            folder = self._directory.trial(job.trial_id)
            for recorded in folder.rows():
                self._rule.evaluated(job.trial_id, recorded.row.cost_ref_s, recorded.row.val_accuracy, again=True)
            self.ended(job, folder.status)
            if self._holding is not None and folder.status is self._rule.status:
                self._holding.was_stopped(job.config_id)

    def evaluated(self, job: Job, cost_ref_s: float, val_accuracy: float) -> None:
        if self.knows(job):
            self._rule.evaluated(job.trial_id, cost_ref_s, val_accuracy)

    def ended(self, job: Job, status: Status) -> None:
        # A trial that was stopped otherwise than by the rule was stopped by a user.
        by_hand = status in STOPPED_STATUSES and status is not self._rule.status
        if self.knows(job) and (status in COMPLETE_STATUSES or status is Status.CRASHED or by_hand):
            self._rule.ended(job.trial_id, status)

    def stops(self, job: Job) -> bool:
        """Whether the job should end now, or not start."""
        return self.knows(job) and self._rule.stops(job.config_id, job.trial_id)

    def holds(self, job: Job) -> bool:
        """Whether the job should not start yet."""
        return self._holding is not None and self.knows(job) and self._holding.holds(job.config_id, job.trial_id)

    def leading(self) -> frozenset[str]:
        """Ids of the configurations whose open seeds run even if the search ends before its time."""
        return frozenset() if self._holding is None else self._holding.leading()

    def is_done(self, job: Job) -> bool:
        """Whether the search needs no more of a job that runs, though its result counts."""
        return self._holding is not None and self.knows(job) and self._holding.is_done(job.config_id, job.trial_id)

    def why(self, job: Job) -> str:
        """Why the job is stopped, in words; empty if the rule does not say."""
        if self.is_done(job) and not self.stops(job):
            return "it has reached the target"
        return "" if self._holding is None else self._holding.why(job.config_id)

    def estimate_ref_s(self, job: Job) -> float | None:
        """The mean time that the rule expects of a job's configuration; None if it expects none."""
        return None if self._holding is None else self._holding.estimate_ref_s(job.config_id)
