"""The interface of a stopping rule, which decides which trials of the search end before they have spent their budget.

A rule is told every evaluation and decides whether a trial should continue. Its state is a function of the curves on
disk: after a restart it is told them again, in any order.

A rule may also decide when a trial starts, see `HoldsTrials`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from kdas.parts.registry import Registry
from kdas.records import Status


@dataclass(frozen=True)
class StoppingContext:
    """What a rule is told about its sweep when it is built.

    `target`: the accuracy whose time counts; `budget_ref_s`: reference seconds that a trial may spend;
    `interval_ref_s`: reference seconds between two evaluations; `keep`: how many of the best configurations the
    confirmation will take; `confirms`: whether there is one, whose trials run to their end.
    """

    target: float
    budget_ref_s: float
    interval_ref_s: float
    keep: int
    confirms: bool = True


class StoppingRule(Protocol):
    """Decides which trials stop early. Its class is registered; its keyword-only parameters are keys of the sweep file.

    `status`: the status of a stopped trial. `only_for`: the only objective that the rule is valid for; None: any.
    `cost_shares`: the share of the search's cost that is still spent under the rule: at least, probably, at most.
    """

    status: ClassVar[Status]
    only_for: ClassVar[str | None]
    cost_shares: ClassVar[tuple[float, float, float]]

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        """A configuration of the search will be trained, one trial for each seed. May be called twice for it."""
        ...

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        """A trial was evaluated. Its evaluations come in order of cost.

        Args: cost_ref_s: reference seconds spent so far; val_accuracy: a fraction, or NaN; again: an earlier start has
            already decided on this evaluation.
        """
        ...

    def ended(self, trial_id: str, status: Status) -> None:
        """A trial has ended with a complete status, has crashed, or was stopped by a user (`STOPPED_EARLY`).

        A trial that crashed may still run again at a later start. Rules whose own status is `STOPPED_EARLY` are not
        told of trials that a user has stopped.
        """
        ...

    def stops(self, config_id: str, trial_id: str) -> bool:
        """Whether the trial should end now, or not start."""
        ...


@runtime_checkable
class HoldsTrials(Protocol):
    """What a stopping rule has besides if it says when trials start, or that one has given what is needed of it."""

    def holds(self, config_id: str, trial_id: str) -> bool:
        """Whether a trial that has not begun should wait. Held trials start all the same if nothing else runs."""
        ...

    def is_done(self, config_id: str, trial_id: str) -> bool:
        """Whether a trial that runs has given what the search needs of it. It ends as `STOPPED_EARLY`, and counts."""
        ...

    def leading(self) -> frozenset[str]:
        """Ids of the configurations that would be confirmed by what is known now, some of whose seeds may be open.

        If the search ends before its time, these get their open seeds. Others do not, so nothing else might be left to
        confirm.
        """
        ...

    def was_stopped(self, config_id: str) -> None:
        """An earlier start has stopped trials of the configuration by this rule."""
        ...

    def why(self, config_id: str) -> str:
        """Why the configuration's trials are stopped, in words."""
        ...

    def estimate_ref_s(self, config_id: str) -> float | None:
        """The expected mean time to the target over all seeds, restricted to the budget; None if nothing is known.

        The search is told it in place of a mean that will never be known.
        """
        ...


STOPPING_RULES: Registry[StoppingRule] = Registry("scheduler")


def better(best: float, accuracy: float) -> float:
    """The higher of two accuracies; NaN does not count."""
    return best if math.isnan(accuracy) else max(best, accuracy)
