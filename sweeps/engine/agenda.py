"""Which trial is next: baselines, then what the search proposes, then the confirmation; and what has come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kdas.records import COMPLETE_STATUSES, STOPPED_STATUSES, Measure, Status, is_searched
from sweeps.engine.objective import Objective, best_first
from sweeps.engine.outcome import outcome_of
from sweeps.engine.plan import Identify, baseline_jobs, confirm_jobs, searched_jobs
from sweeps.engine.proposals import Asked, ConfigurationSearch
from sweeps.engine.spending import Spending
from sweeps.engine.stopping.rules import EarlyStopping
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.paths import CONFIRM
from sweeps.space.space import Point

# Proposals in a row that were all tried before: then the space has nothing new to offer.
EXHAUSTED_AFTER = 50


@dataclass
class Proposal:
    """A searched configuration on its way: its number in the study, and the seeds still out."""

    number: int
    jobs: list[Job]
    waiting: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Terms:
    """What a sweep fixes once and for all, and how.

    `fixed`: the measure of an earlier start. `fix`: called with the jobs of plain distillation once they have ended;
    None if nothing can be fixed by them.
    `rule`: early stopping under a measure.
    """

    fixed: Measure | None
    fix: Callable[[list[Job]], Measure | None]
    rule: Callable[[Measure], EarlyStopping]
    objective: Objective


class Agenda:
    """The sweep's state of work. Scheduling asks it for jobs and reports what they do; it never starts anything.

    All of it is rebuilt from the sweep directory and the study. `adopt` says whether a complete copy of a trial was
    found, so that it need not run.
    """

    def __init__(
        self,
        spec: SweepSpec,
        identify: Identify,
        directory: SweepDirectory,
        search: ConfigurationSearch,
        terms: Terms,
        spending: Spending,
        adopt: Callable[[Job], bool],
    ) -> None:
        self._spec, self._identify, self._directory = spec, identify, directory
        self._search, self._terms, self._spending, self._adopt = search, terms, spending, adopt
        self._measure = terms.fixed
        self._rule: EarlyStopping | None = None
        self._proposals: list[Proposal] = []
        # Of the configurations that may be confirmed: values and settings.
        self._values: dict[str, list[float]] = {}
        self._points: dict[str, Point] = {}
        self._searched: set[str] = set()
        # Proposals in a row that brought nothing new.
        self._duplicates = 0
        self._space_is_exhausted = self._is_confirming = False
        self._crashed: set[str] = set()
        self._baselines = baseline_jobs(spec, identify)
        self._plain = [job for job in self._baselines if job.method == spec.plain_baseline]
        self._out: set[str] = set()
        self._queue: deque[Job] = deque()
        self._queued: set[str] = set()
        self._enqueue([job for job in self._baselines if not adopt(job)])
        self._plain_waiting = {job.trial_id for job in self._queue if job.method == spec.plain_baseline}
        self._fix_if_ready()
        for asked in search.asked():
            self._count_new(self._take_up(asked))

    @property
    def num_out(self) -> int:
        return len(self._out)

    @property
    def num_to_come(self) -> int:
        """Trials that have not begun and, for all that is known now, will."""
        spec = self._spec
        unproposed = 0 if self._is_search_over else max(0, spec.num_configurations - len(self._searched))
        confirming = 0
        if spec.confirm is not None and not self._is_confirming:
            known = len(self._searched) + unproposed
            confirming = (len(spec.baselines) + min(spec.confirm.top, known)) * len(spec.confirm.seeds)
        return len(self._queue) + unproposed * len(spec.seeds) + confirming

    def next_job(self) -> Job | None:
        """A job to start now; None if there is none for the time being, or none at all (see `is_finished`)."""
        self._fill()
        if not self._queue:
            return None
        self._spending.tick(self.num_out)
        job = self._queue.popleft()
        self._queued.discard(job.trial_id)
        self._out.add(job.trial_id)
        return job

    @property
    def is_finished(self) -> bool:
        """Nothing is left to start and nothing is out."""
        self._fill()
        return not self._queue and not self._out

    def evaluated(self, job: Job, cost_ref_s: float, val_accuracy: float) -> Status | None:
        """A job was evaluated. Returns: its status, if it should not go on now; RUNNING: at a later start it may."""
        self._spending.tick(self.num_out)
        if self._rule is None:
            return None
        if not self._may_stop(job):
            return None
        self._rule.evaluated(job.trial_id, cost_ref_s, val_accuracy)
        if self._rule.stops(job.config_id, job.trial_id):
            return self._rule.status
        return Status.RUNNING if self._spending.sets_aside else None

    def ended(self, job: Job) -> None:
        """A job has ended, whichever way; its folder says how."""
        self._spending.tick(self.num_out)
        self._out.discard(job.trial_id)
        self._plain_waiting.discard(job.trial_id)
        self._fix_if_ready()
        status = self._directory.trial(job.trial_id).status
        if status is Status.CRASHED:
            self._crashed.add(job.trial_id)
        if self._rule is not None and self._may_stop(job):
            if status in COMPLETE_STATUSES:
                self._rule.finished(job.trial_id)
            elif status is Status.CRASHED:
                self._rule.crashed(job.trial_id)
        self._left(job.trial_id)

    def lost(self, job: Job) -> None:
        """A job's worker is gone through no fault of the trial: it goes on before anything else is begun."""
        self._spending.tick(self.num_out)
        self._out.discard(job.trial_id)
        self._queue.appendleft(job)
        self._queued.add(job.trial_id)

    def _left(self, trial_id: str) -> None:
        if self._directory.trial(trial_id).status is Status.RUNNING:
            return  # set aside: its proposal goes on at a later start
        for proposal in [each for each in self._proposals if trial_id in each.waiting]:
            proposal.waiting.discard(trial_id)
            self._tell_if_complete(proposal)

    def _enqueue(self, jobs: list[Job]) -> None:
        self._queue.extend(jobs)
        self._queued.update(job.trial_id for job in jobs)

    def _fix_if_ready(self) -> None:
        if self._measure is None and not self._plain_waiting:
            self._measure = self._terms.fix(self._plain)  # None: a later start may know more
        if self._measure is not None and self._rule is None:
            self._rule = self._terms.rule(self._measure)

    def _fill(self) -> None:
        """Find something to run: proposals once the target is known, the confirmation once the search has ended."""
        self._drop_beaten()
        if self._spending.is_spent:
            self._withdraw([job for job in self._queue if self._may_stop(job)])
        while not self._queue and self._measure is not None and not self._is_search_over:
            asked = self._search.ask()
            if asked is None:
                self._space_is_exhausted = True
            else:
                self._count_new(self._take_up(asked))
            self._drop_beaten()
        if not self._queue and not self._out and self._measure is not None and not self._is_confirming:
            self._is_confirming = True
            self._confirm(self._measure)

    def _count_new(self, is_new: bool) -> None:
        self._duplicates = 0 if is_new else self._duplicates + 1

    @property
    def _is_search_over(self) -> bool:
        if self._space_is_exhausted or self._duplicates >= EXHAUSTED_AFTER:
            return True
        return not self.lacks_configurations or self._spending.is_spent

    @property
    def lacks_configurations(self) -> bool:
        """Whether fewer were searched than the file asks for."""
        return len(self._searched) < self._spec.num_configurations

    def _drop_beaten(self) -> None:
        """Trials of stopped configurations that were not begun, or not since this start, need not be."""
        rule = self._rule
        if rule is None:
            return
        dropped = [job for job in self._queue if self._may_stop(job) and rule.stops(job.config_id, job.trial_id)]
        self._withdraw(dropped)
        for job in dropped:
            folder = self._directory.trial(job.trial_id)
            if folder.status not in STOPPED_STATUSES:
                folder.begin(job)
                folder.end(rule.status)
            self._left(job.trial_id)

    def _withdraw(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._queue.remove(job)
            self._queued.discard(job.trial_id)

    def _may_stop(self, job: Job) -> bool:
        return is_searched(job.method) and job.phase != CONFIRM

    def _take_up(self, asked: Asked) -> bool:
        """Plan a proposal's trials. Returns: whether it is a configuration that was not there before."""
        jobs = searched_jobs(self._spec, self._identify, asked.point, self._baselines)
        config_id = jobs[0].config_id
        is_new = is_searched(jobs[0].method) and config_id not in self._searched
        if is_searched(jobs[0].method):
            self._searched.add(config_id)
        expected = {job.trial_id for job in jobs if job.trial_id in self._queued or job.trial_id in self._out}
        to_run = [job for job in jobs if job.trial_id not in expected and not self._is_settled(job)]
        self._hear_again(jobs)
        self._enqueue(to_run)
        self._points[config_id] = asked.point
        # What was told at an earlier start may have got seeds since, and a search hears of a success after a failure.
        proposal = Proposal(asked.number, jobs, expected | {job.trial_id for job in to_run})
        self._proposals.append(proposal)
        self._tell_if_complete(proposal)
        return is_new

    def _is_settled(self, job: Job) -> bool:
        """Whether nothing is left to do. What was capped may go on: more seeds may have loosened the bounds."""
        if job.trial_id in self._crashed:
            return True  # not tried again before the next start
        return self._adopt(job) or self._directory.trial(job.trial_id).status is Status.STOPPED_EARLY

    def _hear_again(self, jobs: list[Job]) -> None:
        """What earlier starts, or other sweeps, know about a configuration counts for early stopping too."""
        # What is a baseline is confirmed in any case, and takes no place from others.
        if self._rule is None or not is_searched(jobs[0].method):
            return
        self._rule.add(jobs[0].config_id, [job.trial_id for job in jobs])
        for job in jobs:
            folder = self._directory.trial(job.trial_id)
            for recorded in folder.rows():
                self._rule.evaluated(job.trial_id, recorded.row.cost_ref_s, recorded.row.val_accuracy, again=True)
            if folder.status in COMPLETE_STATUSES:
                self._rule.finished(job.trial_id)
            elif folder.status is Status.CRASHED:
                self._rule.crashed(job.trial_id)

    def _tell_if_complete(self, proposal: Proposal) -> None:
        if proposal.waiting or self._measure is None:
            return
        self._proposals.remove(proposal)
        trials = [self._directory.trial(job.trial_id) for job in proposal.jobs]
        outcome = outcome_of(trials, self._terms.objective, self._measure)
        if outcome is not None and is_searched(proposal.jobs[0].method):
            self._spending.found(outcome.restricted_s, outcome.is_reached)
        if outcome is not None and outcome.is_known:
            self._values[proposal.jobs[0].config_id] = outcome.values
        self._search.tell(proposal.number, None if outcome is None else outcome.values)

    def _confirm(self, measure: Measure) -> None:
        """Enqueue the confirmation, and let those who read the sweep know what it consists of."""
        jobs = self._confirmed()
        if not jobs:
            return
        configs = tuple(dict.fromkeys(job.config_id for job in jobs))
        seeds = tuple(dict.fromkeys(job.config.seed for job in jobs))
        self._measure = replace(measure, confirm_configs=configs, confirm_seeds=seeds)
        write_measure(self._directory, self._measure)
        self._enqueue([job for job in jobs if not self._adopt(job)])

    def _confirmed(self) -> list[Job]:
        """The finalists and all baselines, on seeds that the search has not seen."""
        confirm = self._spec.confirm
        if confirm is None:
            return []
        known = {job.config_id for job in self._baselines}
        searched = {config_id: values for config_id, values in self._values.items() if config_id not in known}
        ranked = best_first(searched, self._terms.objective.directions)[: confirm.top]
        finalists = [
            searched_jobs(self._spec, self._identify, self._points[config_id], self._baselines)[0]
            for config_id in ranked
        ]
        return confirm_jobs(finalists, self._baselines, confirm.seeds)
