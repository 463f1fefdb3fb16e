"""Decides which trial is next: first the baselines, then what the search proposes, then the confirmation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from kdas.records import STOPPED_STATUSES, Measure, Status
from sweeps.engine.by_hand import StoppedByHand
from sweeps.engine.candidates import Candidates
from sweeps.engine.confirmation import Confirmation
from sweeps.engine.early_stopping import EarlyStopping, may_stop
from sweeps.engine.objective import Objective
from sweeps.engine.plan import Plan
from sweeps.engine.proposals import Asked, ConfigurationSearch
from sweeps.engine.queue import JobQueue
from sweeps.engine.spending import Spending
from sweeps.engine.students import Shelf
from sweeps.file.blocks import KeepStudents
from sweeps.file.methods import Search
from sweeps.record.control import Requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job, Proposal
from sweeps.record.measure import write_measure
from sweeps.record.paths import CONFIRM
from sweeps.record.trial import TrialFolder
from sweeps.stopping import StoppingRule

# After this many repeated proposals in a row the space counts as exhausted.
EXHAUSTED_AFTER = 50


@dataclass(frozen=True)
class Terms:
    """What a sweep fixes once, and how.

    `fixed`: the measure of an earlier start. `fix`: called with the jobs of plain distillation once they have ended;
    returns None if they do not suffice to fix the measure. `rule`: the stopping rule under a measure.
    """

    fixed: Measure | None
    fix: Callable[[Sequence[Job]], Measure | None]
    rule: Callable[[Measure], StoppingRule]
    objective: Objective


@dataclass
class _Lane:
    """One search of the sweep: what it proposes, its configurations, and which of their trials may be stopped."""

    search: Search
    proposals: ConfigurationSearch
    candidates: Candidates
    stopping: EarlyStopping | None = None
    space_is_exhausted: bool = False

    @property
    def is_exhausted(self) -> bool:
        return self.space_is_exhausted or self.candidates.num_repeats >= EXHAUSTED_AFTER


class Agenda:
    """The state of a sweep's work. A driver asks it for jobs and reports what they do; it starts nothing itself.

    A sweep has three steps: the baselines, until plain distillation has ended and the measure is fixed; the search; and
    the confirmation, which begins once the search is over and no job waits or runs. The state is rebuilt from the sweep
    directory and the studies.

    Each searched method has a search of its own. They take turns, so that each method gets as many configurations as
    the others, and early stopping compares only configurations of one search.

    Args: search_for: the proposals of a search; adopt: returns whether a complete copy of a trial was found, so that it
        need not run; keep_students: whose trained networks are kept.
    """

    def __init__(
        self,
        plan: Plan,
        directory: SweepDirectory,
        search_for: Callable[[Search], ConfigurationSearch],
        terms: Terms,
        spending: Spending,
        adopt: Callable[[Job], bool],
        keep_students: KeepStudents = "none",
    ) -> None:
        self._plan, self._directory = plan, directory
        self._terms, self._spending, self._adopt = terms, spending, adopt
        self._lanes = [self._lane(search, search_for(search)) for search in plan.methods.searches]
        self._queue = JobQueue()
        self._shelf = Shelf(keep_students, directory)
        self._measure: Measure | None = None
        self._confirmation = Confirmation(plan, directory)
        # Crashed in this start: retried by the next one.
        self._crashed: set[str] = set()
        # Whether, since capped trials were last looked at, one has ended that can have beaten them and no longer does:
        # it crashed, or a user stopped it.
        self._has_dropped_out = False
        # Once the search has ended before its time: the configurations that get their open seeds all the same.
        self._leading: frozenset[str] | None = None
        self._asked = Requests()
        self._by_hand = StoppedByHand(directory)
        # Trials that had ended and whose files were damaged: they are trained again to where they ended.
        self._rebuilt: set[str] = set()
        missing = [job for job in plan.baselines if not adopt(job)]
        self._queue.add(missing)
        self._plain_waiting = {job.trial_id for job in missing if job.method == plan.methods.plain}
        self._fix_measure(terms.fixed)
        for lane in self._lanes:
            for asked in lane.proposals.asked():
                self._take_in(lane, asked)

    def _lane(self, search: Search, proposals: ConfigurationSearch) -> _Lane:
        def expected_s(job: Job) -> float | None:
            return None if lane.stopping is None else lane.stopping.estimate_ref_s(job)

        candidates = Candidates(self._directory, proposals, self._terms.objective, self._spending, expected_s)
        lane = _Lane(search, proposals, candidates)
        return lane

    # For the driver: actions.

    def fill(self) -> bool:
        """Find jobs to run, if there are any: ask the search, or take the next look of the confirmation.

        Returns: whether a job waits that may start.
        """
        self._drop_beaten()
        if self._spending.is_spent:
            sets_aside = self._spending.sets_aside
            self._queue.withdraw(lambda job: self._may_stop(job) and (sets_aside or not self._is_to_end(job)))
        while self._measure is not None and not self._is_ready and (lane := self._next_lane()) is not None:
            self._propose(lane)
            self._drop_beaten()
            # Trials of other sweeps bring theirs.
            self._shelf.keep_only(self._may_be_best())
        if self._measure is not None and self._queue.is_idle and not self._confirmation.has_begun:
            self._bring_back()
        while self._measure is not None and self._queue.is_idle and not self._confirmation.is_over:
            self._confirm(self._measure)
        return self._is_ready

    @property
    def _is_ready(self) -> bool:
        """Whether a job waits that may start."""
        return self._queue.next_ready(self._is_held) is not None

    def heed(self, asked: Requests) -> list[str]:
        """Follow what users ask from now on. Returns: a line for each request that is new."""
        before, self._asked = self._asked, asked
        self._by_hand.heed(asked, self._measure)
        lines = []
        if asked.finishes and not before.finishes:
            self._spending.finish()
            lines.append(
                "The search ends, as you asked. To continue it, raise budget.configurations above"
                f" {asked.finished_at or self._plan.num_configurations}."
            )
        if asked.is_paused != before.is_paused:
            lines.append("Paused, as you asked: no trial starts." if asked.is_paused else "No longer paused.")
        return [*lines, *(self._stop(trial_id) for trial_id in asked.stopped if trial_id not in before.stopped)]

    def _stop(self, trial_id: str) -> str:
        """End a trial of the search: at once if it waits, otherwise at its next evaluation. Returns: what it does."""
        if not self._queue.expects(trial_id):
            return f"{trial_id} neither waits nor runs."
        waited = self._end_waiting(lambda job: job.trial_id == trial_id and self._is_stopped_by_hand(job))
        told = "is stopped, as you asked." if waited else "stops at its next evaluation, as you asked."
        if others := self._drop_given_up():
            ids = ", ".join(job.trial_id for job in others)
            told += f" Its configuration can no longer win, so these do not start: {ids}."
        return f"{trial_id} {told}"

    def _drop_given_up(self) -> list[Job]:
        """Record waiting trials of configurations that a user has stopped as stopped, without running them."""
        return self._end_waiting(
            lambda job: self._by_hand.gives_up(job) and self._may_stop(job) and not self._is_under_way(job)
        )

    def _end_waiting(self, is_unwanted: Callable[[Job], bool]) -> list[Job]:
        """Record waiting trials as stopped by hand, without running them. Returns: their jobs."""
        ended = self._queue.withdraw(is_unwanted)
        for job in ended:
            self._record_stopped(job, Status.STOPPED_EARLY, why="")
            for rule in self._rules_of(job):
                rule.ended(job, Status.STOPPED_EARLY)
            self._has_dropped_out = True
            self._tell_ended(job)
        return ended

    def _record_stopped(self, job: Job, status: Status, why: str) -> None:
        folder = self._directory.trial(job.trial_id)
        if folder.status not in STOPPED_STATUSES:
            folder.begin(job)
            folder.end(status, why=why)

    def _is_stopped_by_hand(self, job: Job) -> bool:
        """Whether a user has asked to stop a job that may be stopped."""
        return self._by_hand.stops(job) and self._may_stop(job)

    def _may_stop(self, job: Job) -> bool:
        return may_stop(job) and job.trial_id not in self._rebuilt

    def _is_under_way(self, job: Job) -> bool:
        """Whether a waiting job has begun: its worker was lost, or an earlier start was."""
        folder = self._directory.trial(job.trial_id)
        return folder.exists and folder.status is Status.RUNNING

    def _is_to_end(self, job: Job) -> bool:
        """Whether a waiting job runs though the search has ended before its time.

        What was under way when its worker or the sweep was lost runs to its end, as everything under way does.
        """
        if self._leading is None:  # once: the next seeds change what leads
            rules = (lane.stopping for lane in self._lanes)
            self._leading = frozenset().union(*(rule.leading() for rule in rules if rule is not None))
        return job.config_id in self._leading or self._is_under_way(job)

    def next_job(self) -> Job | None:
        """A job to start now; None if none is available yet, or if the sweep is finished (see `is_finished`)."""
        # If nothing waits or runs, a paused sweep still looks whether it has come to its end.
        if self._asked.is_paused and not self._queue.is_idle:
            return None
        if not self.fill() or self._asked.is_paused:
            return None
        self._spending.tick(self.num_out)
        return self._queue.take(self._is_held)

    def evaluated(self, job: Job, cost_ref_s: float, val_accuracy: float) -> Status | None:
        """Report an evaluation. Returns: the job's status if it should end now (RUNNING: a later start resumes it)."""
        self._spending.tick(self.num_out)
        rules = self._rules_of(job)
        for rule in rules:
            rule.evaluated(job, cost_ref_s, val_accuracy)
        if self._is_stopped_by_hand(job):
            return Status.STOPPED_EARLY
        if not rules or job.trial_id in self._rebuilt:
            return None
        if self._stops(job):
            return rules[0].status
        if all(rule.is_done(job) for rule in rules):
            return Status.STOPPED_EARLY
        return Status.RUNNING if self._spending.sets_aside else None

    def why(self, job: Job) -> str:
        """Why the rule stops a job, in words; empty if it does not say, and if a user stops the job."""
        rules = self._rules_of(job)
        return rules[0].why(job) if rules and not self._is_stopped_by_hand(job) else ""

    def ended(self, job: Job) -> None:
        """Report that a job has ended; its folder says how."""
        self._spending.tick(self.num_out)
        self._queue.come_back(job)
        self._plain_waiting.discard(job.trial_id)
        self._fix_measure(self._measure)
        status = self._directory.trial(job.trial_id).status
        if status is Status.CRASHED:
            self._crashed.add(job.trial_id)
        if status is Status.CRASHED or self._is_stopped_by_hand(job):
            self._has_dropped_out = True
        for rule in self._rules_of(job):
            rule.ended(job, status)
        if status is not Status.RUNNING:  # otherwise it is paused, and its proposal waits for a later start
            self._tell_ended(job)
        self._shelf.ended(job)
        self._shelf.keep_only(self._may_be_best())

    def lost(self, job: Job) -> None:
        """Report that a job's worker was lost. The trial is not to blame, so it resumes before others start."""
        self._spending.tick(self.num_out)
        self._queue.put_back(job)

    # For the driver: state.

    @property
    def is_finished(self) -> bool:
        """No job waits or runs, and this start will add none."""
        return self._queue.is_idle and (self._measure is None or self._confirmation.is_over)

    @property
    def keeps_students(self) -> bool:
        return self._shelf.policy != "none"

    def trials_with_students(self, folders: Iterable[TrialFolder]) -> list[str]:
        """Ids of the trials whose students a finished sweep keeps. Args: folders: of all its trials, intact."""
        if self._shelf.policy == "all":
            return [folder.path.name for folder in folders]
        best = self._may_be_best()
        return [
            folder.path.name
            for folder in folders
            if folder.description["phase"] == CONFIRM or folder.description["config_id"] in best
        ]

    def _may_be_best(self) -> set[str]:
        """Ids of configurations of the search whose students are kept: the best of each method, as far as is known."""
        best = {config_id for lane in self._lanes for config_id in lane.candidates.may_be_best()}
        # A confirmation has fresh students of the baselines.
        return best if self._plan.confirm is not None else best | {job.config_id for job in self._plan.baselines}

    @property
    def leaders(self) -> list[Job]:
        """The first job of the best complete configuration of each search."""
        return [job for lane in self._lanes for job in lane.candidates.finalists(1)]

    @property
    def num_out(self) -> int:
        return self._queue.num_out

    def expects(self, trial_id: str) -> bool:
        """Whether the trial waits or runs."""
        return self._queue.expects(trial_id)

    @property
    def num_to_come(self) -> int:
        """Number of trials that have not started and, as far as is known now, will."""
        plan, num_unproposed, num_finalists = self._plan, 0, 0
        for lane in self._lanes:
            num_searched = lane.candidates.num_searched
            num_open = 0 if self._is_over(lane) else plan.num_configurations - num_searched
            num_unproposed += num_open
            num_finalists += min(plan.confirm.top, num_searched + num_open) if plan.confirm is not None else 0
        confirming = 0
        if plan.confirm is not None and not self._confirmation.has_begun:
            # A sweep that was confirmed before has the baselines on fresh seeds, and perhaps the finalists.
            known = plan.confirmation(self._finalists, plan.num_fresh_seeds)
            num_done = sum(self._directory.trial(job.trial_id).is_final for job in known)
            confirming = (len(plan.methods.baselines) + num_finalists) * plan.num_fresh_seeds - num_done
        return self._queue.num_waiting + num_unproposed * len(plan.seeds) + confirming

    @property
    def confirmation_ending(self) -> str:
        """Why a confirmation in looks ended, in a sentence; empty without one. For a finished sweep."""
        return "" if self._measure is None else self._confirmation.ending(self._finalists, self._measure)

    @property
    def lacks_configurations(self) -> bool:
        """Whether fewer configurations were searched than the file asks for."""
        return any(self._lacks_configurations(lane) for lane in self._lanes)

    @property
    def untried_methods(self) -> list[str]:
        """The methods, in tables, of the searches that have proposed nothing."""
        searches = [lane.search for lane in self._lanes if not lane.proposals.asked()]
        return [search.method(sampler) for search in searches for sampler in search.samplers]

    @property
    def num_untried(self) -> int:
        """Number of points that the searches were to try first and have not proposed."""
        return sum(lane.proposals.num_untried for lane in self._lanes)

    def _lacks_configurations(self, lane: _Lane) -> bool:
        return lane.candidates.num_searched < self._plan.num_configurations

    # The steps.

    def _fix_measure(self, known: Measure | None) -> None:
        """Fix the target once plain distillation has ended; from then on trials may be stopped."""
        self._measure = known
        if self._measure is None and not self._plain_waiting:
            self._measure = self._terms.fix(self._plan.plain)  # None: a later start may know more
        if self._measure is None:
            return
        for lane in self._lanes:
            if lane.stopping is None:
                lane.stopping = EarlyStopping(self._terms.rule(self._measure), self._directory)

    def _is_over(self, lane: _Lane) -> bool:
        return lane.is_exhausted or not self._lacks_configurations(lane) or self._spending.is_spent

    def _next_lane(self) -> _Lane | None:
        """The search that has proposed least; None if all are over."""
        still_open = [lane for lane in self._lanes if not self._is_over(lane)]
        return min(still_open, key=lambda lane: lane.candidates.num_searched, default=None)

    def _propose(self, lane: _Lane) -> None:
        asked = lane.proposals.ask()
        if asked is None:
            lane.space_is_exhausted = True
        else:
            self._take_in(lane, asked)

    def _confirm(self, measure: Measure) -> None:
        """Enqueue the next look of the confirmation, if there is one, and record its configurations and seeds."""
        jobs, self._measure = self._confirmation.next_look(self._finalists, measure)
        if jobs:
            write_measure(self._directory, self._measure)
        self._queue.add(job for job in jobs if job.trial_id not in self._crashed and not self._adopt(job))

    @property
    def _finalists(self) -> list[Job]:
        """The first job of each finalist."""
        top = self._plan.confirm.top if self._plan.confirm is not None else 0
        return [job for lane in self._lanes for job in lane.candidates.finalists(top)]

    # Proposals.

    def _take_in(self, lane: _Lane, asked: Asked) -> None:
        """Plan the trials of a proposal and enqueue those that neither wait nor have run."""
        proposal = Proposal(asked.number, asked.params, lane.search.name)
        jobs = [replace(job, proposal=proposal) for job in self._plan.searched(asked.point, lane.search)]
        expected = {job.trial_id for job in jobs if self._queue.expects(job.trial_id)}
        to_run = [job for job in jobs if job.trial_id not in expected and not self._is_settled(job)]
        if lane.stopping is not None:
            lane.stopping.take_in(jobs)
        self._queue.add(to_run)
        lane.candidates.take_in(asked, jobs, expected | {job.trial_id for job in to_run}, self._measure)

    def _is_settled(self, job: Job) -> bool:
        """Whether the job need not run. Capped trials may run again: more seeds can loosen the bounds."""
        if job.trial_id in self._crashed or self._adopt(job):
            self._shelf.ended(job)
            return True
        folder = self._directory.trial(job.trial_id)
        if folder.rebuilds is not None:
            self._rebuilt.add(job.trial_id)
        return folder.status is Status.STOPPED_EARLY

    def _rules_of(self, job: Job) -> list[EarlyStopping]:
        """The stopping rules of the searches that have proposed a job's configuration."""
        rules = (lane.stopping for lane in self._lanes)
        return [rule for rule in rules if rule is not None and rule.knows(job)]

    def _stops(self, job: Job) -> bool:
        """Whether no search needs the rest of a job."""
        rules = self._rules_of(job)
        return bool(rules) and job.trial_id not in self._rebuilt and all(rule.stops(job) for rule in rules)

    def _is_held(self, job: Job) -> bool:
        """Whether every search that needs a job would have it start later."""
        rules = self._rules_of(job)
        return bool(rules) and job.trial_id not in self._rebuilt and all(rule.holds(job) for rule in rules)

    def _tell_ended(self, job: Job) -> None:
        for lane in self._lanes:
            lane.candidates.ended(job.trial_id, self._measure)

    def _bring_back(self) -> None:
        """Enqueue capped trials that are no longer beaten: what had beaten them has dropped out since."""
        if not self._has_dropped_out or self._spending.is_spent:
            return
        self._has_dropped_out = False
        for lane in self._lanes:
            for asked in lane.proposals.asked():
                jobs = self._plan.searched(asked.point, lane.search)
                statuses = [self._directory.trial(job.trial_id).status for job in jobs]
                # With a seed that crashed or was stopped it cannot be chosen, whatever its other seeds do.
                is_out = Status.CRASHED in statuses or self._by_hand.gives_up(jobs[0])
                if Status.CAPPED in statuses and not is_out and not self._stops(jobs[0]):
                    self._take_in(lane, asked)

    def _drop_beaten(self) -> None:
        """Record waiting trials that the rule would stop as stopped, without running them."""
        for job in self._queue.withdraw(self._stops):
            self._record_stopped(job, self._rules_of(job)[0].status, self.why(job))
            self._tell_ended(job)
        self._drop_given_up()
