"""What a search optimizes: one or two values of a configuration, computed from the curves of its seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kdas.records import Measure, Status
from sweeps.file.blocks import AccuracyAtCost, ObjectiveConfig
from sweeps.record.measure import best_accuracy, time_to_target
from sweeps.record.trial import Recorded

Rows = Sequence[Recorded]
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """Means over seeds, in Optuna's directions.

    `name`: tta, the reference seconds to the target, restricted to the budget; accuracy, the best accuracy;
    accuracy_at_cost, the best accuracy up to `cost_ref_s`; pareto, the best accuracy and the cost of the trial.
    """

    name: str
    cost_ref_s: float = math.inf

    @property
    def directions(self) -> list[Direction]:
        """The direction of each value."""
        if self.name == "tta":
            return ["minimize"]
        return ["maximize", "minimize"] if self.name == "pareto" else ["maximize"]

    def values(self, curves: Sequence[Rows], statuses: Sequence[Status], measure: Measure) -> list[float]:
        """One value for each direction. Args: curves, statuses: of every seed; curves may be incomplete.

        A trial that was stopped or diverged gets a value that is certainly not too good: it has not reached the target,
        and its cost counts as the full budget.
        """
        if self.name == "tta":
            return [
                statistics.fmean(min(time_to_target(rows, measure.target), measure.budget_ref_s) for rows in curves)
            ]
        accuracy = mean_best_accuracy([self._up_to_cost(rows) for rows in curves])
        if self.name == "pareto":
            ran_whole = [status in (Status.BUDGET, Status.REACHED) for status in statuses]
            costs = [
                rows[-1].row.cost_ref_s if is_whole else measure.budget_ref_s
                for rows, is_whole in zip(curves, ran_whole, strict=True)
            ]
            return [accuracy, statistics.fmean(costs)]
        return [accuracy]

    def _up_to_cost(self, rows: Rows) -> Rows:
        return [recorded for recorded in rows if recorded.row.cost_ref_s <= self.cost_ref_s]


def mean_best_accuracy(curves: Sequence[Rows]) -> float:
    """The mean over seeds of the best accuracy, 0 where nothing was evaluated."""
    known = [best_accuracy(rows) for rows in curves]
    return statistics.fmean(0.0 if math.isnan(accuracy) else accuracy for accuracy in known)


def objective_of(given: ObjectiveConfig, budget_ref_s: float) -> Objective:
    """The objective of a sweep file. Args: budget_ref_s: reference seconds that a trial may spend."""
    if isinstance(given, AccuracyAtCost):
        cost_ref_s = given.cost_ref_s
        if cost_ref_s is None:
            assert given.share_of_budget is not None
            cost_ref_s = given.share_of_budget * budget_ref_s
        return Objective(given.name, cost_ref_s)
    return Objective(given.name)


def best_first(
    values: Mapping[str, Sequence[float]], directions: Sequence[Direction], accuracies: Mapping[str, float]
) -> list[str]:
    """Configuration ids, best first. With two values, those that no other configuration beats in both come first.

    Args: accuracies: decide between equal values: settings that all missed the target have the same time.
    """
    losses = {
        config_id: [-value if way == "maximize" else value for value, way in zip(each, directions, strict=True)]
        for config_id, each in values.items()
    }
    if len(directions) == 1:
        return sorted(losses, key=lambda config_id: (losses[config_id], -accuracies[config_id], config_id))

    def num_beating(config_id: str) -> int:
        own = losses[config_id]
        return sum(
            other != own and all(theirs <= ours for theirs, ours in zip(other, own, strict=True))
            for other in losses.values()
        )

    return sorted(
        losses, key=lambda config_id: (num_beating(config_id), losses[config_id], -accuracies[config_id], config_id)
    )
