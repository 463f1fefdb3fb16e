"""The share of trials that have reached the target by a given cost, for trials whose end is unrelated to their time.

Kaplan-Meier curves are valid for trials that used up their budget, lost their worker or still run. A trial stopped
because of its own accuracy was stopped for being slow; these estimates would treat it as no slower than the others.
Use the bounds of `analysis.statistics.censoring` for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SurvivalCurve:
    """The share of trials that have not reached the target, after each cost at which one did; all [K].

    `num_at_risk`: trials still in the running just before that cost.
    """

    cost: Floats
    share: Floats
    num_at_risk: NDArray[np.int64]

    def at(self, cost: float) -> float:
        """The share that has not reached the target by this cost."""
        index = int(np.searchsorted(self.cost, cost, side="right"))
        return float(self.share[index - 1]) if index else 1.0


def kaplan_meier(cost: ArrayLike, observed: ArrayLike) -> SurvivalCurve:
    """The Kaplan-Meier curve.

    Args: cost [N]: at which a trial reached the target, or was last seen without; observed [N]: True if it reached.
    Raises: ValueError: if there are no trials.
    """
    costs, is_observed = np.asarray(cost, dtype=float), np.asarray(observed, dtype=bool)
    if not len(costs):
        raise ValueError("cost: expected at least one trial, got none")
    # scipy's curve also lists the costs at which trials were lost; the share does not change there.
    survival = stats.ecdf(_censored(costs, is_observed)).sf
    events = np.unique(costs[is_observed])
    at_risk = np.array([(costs >= event).sum() for event in events], dtype=np.int64)
    shares = survival.probabilities[np.searchsorted(survival.quantiles, events)] if len(events) else np.empty(0)
    return SurvivalCurve(events, np.asarray(shares, dtype=float), at_risk)


def log_rank(
    cost: ArrayLike, observed: ArrayLike, other_cost: ArrayLike, other_observed: ArrayLike
) -> tuple[float, float]:
    """Log-rank test of equal times to the target in two groups. Returns: chi-squared (one degree of freedom), p."""
    found = stats.logrank(
        _censored(np.asarray(cost, dtype=float), np.asarray(observed, dtype=bool)),
        _censored(np.asarray(other_cost, dtype=float), np.asarray(other_observed, dtype=bool)),
    )
    return float(found.statistic) ** 2, float(found.pvalue)


def _censored(costs: Floats, is_observed: NDArray[np.bool_]) -> stats.CensoredData:
    if not np.isfinite(costs).all():
        raise ValueError(f"cost: expected finite numbers, got {costs[~np.isfinite(costs)][0]}")
    return stats.CensoredData.right_censored(costs, ~is_observed)
