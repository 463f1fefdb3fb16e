"""The interface of a stopping rule: which trials of the search end before they have spent their budget.

A rule hears of every evaluation and says whether a trial should run on. Its state is a function of the curves on disk:
after a restart it hears them again, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from kdas.parts.registry import Registry
from kdas.records import Status


@dataclass(frozen=True)
class StoppingContext:
    """What a rule may know of its sweep when it is built.

    `target`: the accuracy whose time counts; `budget_ref_s`: reference seconds that a trial may spend;
    `interval_ref_s`: reference seconds between two evaluations; `keep`: how many of the best configurations the
    confirmation will take.
    """

    target: float
    budget_ref_s: float
    interval_ref_s: float
    keep: int


class StoppingRule(Protocol):
    """Says which trials stop early. Its class is registered; its keyword-only parameters are those of the sweep file.

    `status`: what a stopped trial is recorded as. `only_for`: the one objective for which the rule is right; None: any.
    `cost_shares`: the share of the search's cost that is still spent under the rule: at least, probably, at most.
    """

    status: ClassVar[Status]
    only_for: ClassVar[str | None]
    cost_shares: ClassVar[tuple[float, float, float]]

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        """A configuration of the search will be trained on these trials, one for each seed. May come twice."""
        ...

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        """A trial was evaluated; its evaluations come in the order of their cost.

        Args: cost_ref_s: reference seconds spent so far; val_accuracy: a fraction, or NaN; again: an earlier start has
            already decided about this evaluation.
        """
        ...

    def ended(self, trial_id: str, status: Status) -> None:
        """A trial has ended with a complete status or has crashed. It may still run again at a later start."""
        ...

    def stops(self, config_id: str, trial_id: str) -> bool:
        """Whether the trial should end now, or not begin."""
        ...


STOPPING_RULES: Registry[StoppingRule] = Registry("scheduler")


def better(best: float, accuracy: float) -> float:
    """The higher of two accuracies; NaN does not count."""
    return best if math.isnan(accuracy) else max(best, accuracy)
