"""Which trial is next: baselines, then what the search proposes; and what has come back."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from optuna.trial import TrialState

from kdas.records import Status, is_searched
from kdas.trial import Inputs
from sweeps.measure import Measure, time_to_target
from sweeps.plan import Job, baseline_jobs, searched_jobs
from sweeps.search import ConfigurationSearch
from sweeps.spec import SweepSpec
from sweeps.store import SweepDirectory

# Proposals in a row that were all tried before: then the space has nothing new to offer.
EXHAUSTED_AFTER = 50


@dataclass
class Proposal:
    """A searched configuration on its way: its number in the study, and the seeds still out."""

    number: int
    jobs: list[Job]
    waiting: set[str] = field(default_factory=set)


class Agenda:
    """The sweep's state of work. Scheduling asks it for jobs and reports them ended; it never starts anything.

    `measure` is what an earlier start fixed, else `fix_measure` fixes it once plain distillation has ended; `adopt`
    says whether a finished copy of a trial was found, so that it need not run.
    """

    def __init__(
        self,
        spec: SweepSpec,
        inputs: Inputs,
        directory: SweepDirectory,
        search: ConfigurationSearch,
        measure: Measure | None,
        adopt: Callable[[Job], bool],
        fix_measure: Callable[[list[Job]], Measure],
    ) -> None:
        self._spec, self._inputs, self._directory = spec, inputs, directory
        self._search, self._adopt, self._fix_measure = search, adopt, fix_measure
        self._measure = measure
        self._proposals: list[Proposal] = []
        self._searched: set[str] = set()
        self._exhausted = False
        self._baselines = baseline_jobs(spec, inputs)
        self._plain = [job for job in self._baselines if job.method == spec.plain_baseline]
        self._out: set[str] = set()
        self._queue = deque(job for job in self._baselines if not adopt(job))
        self._queued = {job.trial_id for job in self._queue}
        self._plain_waiting = {job.trial_id for job in self._queue if job.method == spec.plain_baseline}
        self._fix_if_ready()
        for number, parameters, state in search.asked():
            self._take_up(number, parameters, state)

    @property
    def num_out(self) -> int:
        return len(self._out)

    def next_job(self) -> Job | None:
        """A job to start now; None if there is none for the time being, or none at all (see `is_finished`)."""
        self._fill()
        if not self._queue:
            return None
        job = self._queue.popleft()
        self._queued.discard(job.trial_id)
        self._out.add(job.trial_id)
        return job

    @property
    def is_finished(self) -> bool:
        """Nothing is left to start and nothing is out."""
        self._fill()
        return not self._queue and not self._out

    def ended(self, job: Job) -> None:
        """A job has ended, whichever way; its folder says how."""
        self._out.discard(job.trial_id)
        self._plain_waiting.discard(job.trial_id)
        self._fix_if_ready()
        for proposal in list(self._proposals):
            proposal.waiting.discard(job.trial_id)
            self._tell_if_complete(proposal)

    def _fix_if_ready(self) -> None:
        if self._measure is None and not self._plain_waiting:
            self._measure = self._fix_measure(self._plain)

    def _fill(self) -> None:
        """Ask for proposals until there is something to run; the search waits for its target."""
        duplicates = 0
        while (
            not self._queue
            and self._measure is not None
            and not self._exhausted
            and len(self._searched) < self._spec.num_configurations
        ):
            was_new = self._take_up(*self._search.ask())
            duplicates = 0 if was_new else duplicates + 1
            self._exhausted = duplicates >= EXHAUSTED_AFTER

    def _take_up(self, number: int, parameters: dict[str, Any], state: TrialState = TrialState.RUNNING) -> bool:
        """Plan a proposal's trials. Returns: whether it is a configuration that was not there before."""
        jobs = searched_jobs(self._spec, self._inputs, parameters, self._baselines)
        is_new = is_searched(jobs[0].method) and jobs[0].config_id not in self._searched
        if is_searched(jobs[0].method):
            self._searched.add(jobs[0].config_id)
        expected = {job.trial_id for job in jobs if job.trial_id in self._queued or job.trial_id in self._out}
        to_run = [job for job in jobs if job.trial_id not in expected and not self._adopt(job)]
        self._queue.extend(to_run)
        self._queued.update(job.trial_id for job in to_run)
        if state is TrialState.COMPLETE or (state is TrialState.FAIL and not to_run):
            return is_new  # told at an earlier start; what is queued are seeds that came later
        proposal = Proposal(number, jobs, expected | {job.trial_id for job in to_run})
        self._proposals.append(proposal)
        self._tell_if_complete(proposal)
        return is_new

    def _tell_if_complete(self, proposal: Proposal) -> None:
        if proposal.waiting or self._measure is None:
            return
        self._proposals.remove(proposal)
        self._search.tell(proposal.number, self._mean_restricted_s(proposal.jobs, self._measure))

    def _mean_restricted_s(self, jobs: list[Job], measure: Measure) -> float | None:
        folders = [self._directory.trial(job.trial_id) for job in jobs]
        if any(folder.status is Status.CRASHED for folder in folders):
            return None
        times = [min(time_to_target(folder.rows(), measure.target), measure.tau_ref_s) for folder in folders]
        return statistics.fmean(times)
