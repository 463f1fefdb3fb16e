"""Searched configurations: those in progress, and the results of the complete ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdas.records import Measure, is_searched
from sweeps.engine.objective import Objective, best_first
from sweeps.engine.outcome import Outcome, outcome_of
from sweeps.engine.proposals import Asked, ConfigurationSearch
from sweeps.engine.spending import Spending
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job


@dataclass
class _InProgress:
    """A proposal that the search awaits: its number in the study, and its trials that have not ended."""

    number: int
    jobs: Sequence[Job]
    waiting: set[str] = field(default_factory=set)


class Candidates:
    """Collects proposals, reports their results to the search, and ranks the complete ones.

    Args: expected_s: the mean time to the target that is expected of the configuration of a job, some of whose seeds
        were stopped; None if nothing is expected.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        search: ConfigurationSearch,
        objective: Objective,
        spending: Spending,
        expected_s: Callable[[Job], float | None],
    ) -> None:
        self._directory, self._search, self._objective, self._spending = directory, search, objective, spending
        self._expected_s = expected_s
        self._proposals: list[_InProgress] = []
        # The first job of each configuration that may be confirmed, the configuration's values and its best accuracy.
        self._jobs: dict[str, Job] = {}
        self._values: dict[str, list[float]] = {}
        self._accuracies: dict[str, float] = {}
        self._searched: set[str] = set()
        # Proposals in a row that repeated an earlier configuration.
        self.num_repeats = 0

    @property
    def num_searched(self) -> int:
        """Number of configurations proposed so far; those that equal a baseline do not count."""
        return len(self._searched)

    def take_in(self, asked: Asked, jobs: Sequence[Job], waiting: set[str], measure: Measure | None) -> None:
        """Add a proposal. Args: waiting: its trials that have not ended; measure: None before it is fixed."""
        config_id = jobs[0].config_id
        is_new = is_searched(jobs[0].method) and config_id not in self._searched
        if is_searched(jobs[0].method):
            self._searched.add(config_id)
        self.num_repeats = 0 if is_new else self.num_repeats + 1
        self._jobs[config_id] = jobs[0]
        # A proposal of an earlier start may have new seeds, or a crashed one may have succeeded since.
        self._proposals.append(_InProgress(asked.number, jobs, waiting))
        self.tell_complete(measure)

    def ended(self, trial_id: str, measure: Measure | None) -> None:
        """Report that a trial has ended and will not resume."""
        for proposal in self._proposals:
            proposal.waiting.discard(trial_id)
        self.tell_complete(measure)

    def tell_complete(self, measure: Measure | None) -> None:
        """Report every proposal whose trials have all ended to the search."""
        if measure is None:
            return
        complete = [proposal for proposal in self._proposals if not proposal.waiting]
        self._proposals = [proposal for proposal in self._proposals if proposal.waiting]
        for proposal in complete:
            self._tell(proposal, measure)

    def _tell(self, proposal: _InProgress, measure: Measure) -> None:
        trials = [self._directory.trial(job.trial_id) for job in proposal.jobs]
        outcome = outcome_of(trials, self._objective, measure)
        first = proposal.jobs[0]
        if outcome is not None and is_searched(first.method):
            self._spending.found(outcome.restricted_s, outcome.is_reached)
        if outcome is not None and outcome.is_known:
            self._values[first.config_id] = outcome.values
            self._accuracies[first.config_id] = outcome.best_accuracy
        self._search.tell(proposal.number, None if outcome is None else self._told(first, outcome))

    def _told(self, job: Job, outcome: Outcome) -> list[float]:
        """What the search learns from. Seeds that never ran would count as misses in the outcome's values."""
        expected_s = None if outcome.is_known else self._expected_s(job)
        return outcome.values if expected_s is None else [expected_s]

    def may_be_best(self) -> set[str]:
        """Ids of the configurations in progress, and of the best complete one."""
        return {proposal.jobs[0].config_id for proposal in self._proposals} | {
            job.config_id for job in self.finalists(1)
        }

    def finalists(self, number: int) -> list[Job]:
        """The first job of each of the best complete configurations, the best first."""
        searched = {config_id: values for config_id, values in self._values.items() if config_id in self._searched}
        ranked = best_first(searched, self._objective.directions, self._accuracies)[:number]
        return [self._jobs[config_id] for config_id in ranked]
