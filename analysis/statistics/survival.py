"""Which part of the trials has reached the target by a cost, where a trial's end says nothing about its time.

Kaplan-Meier curves and restricted means hold for a trial that used up its budget, lost its worker or still runs. One
that was stopped because of its own accuracy was stopped for being slow, and these estimates would take it for as fast
as the others; there only bounds are honest, see `analysis.statistics.censoring`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kdas.errors import UserError
from kdas.records import STOPPED_STATUSES

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SurvivalCurve:
    """The share that has not reached the target after each cost at which one did, all [K].

    `num_at_risk`: trials that had neither reached it nor been lost just before that cost.
    """

    cost: Floats
    share: Floats
    num_at_risk: NDArray[np.int64]

    def at(self, cost: float) -> float:
        """The share that has not reached the target by a cost."""
        index = int(np.searchsorted(self.cost, cost, side="right"))
        return float(self.share[index - 1]) if index else 1.0


def kaplan_meier(cost: ArrayLike, observed: ArrayLike) -> SurvivalCurve:
    """The Kaplan-Meier curve.

    Args: cost [N]: when each trial reached the target, or until when it was seen without; observed [N]: which it was.
    Raises: ValueError: if there is no trial.
    """
    costs, is_observed = np.asarray(cost, dtype=float), np.asarray(observed, dtype=bool)
    if not len(costs):
        raise ValueError("there is no trial")
    # scipy's curve also lists the costs at which trials were lost, where nothing happens to the share.
    survival = stats.ecdf(_censored(costs, is_observed)).sf
    events = np.unique(costs[is_observed])
    at_risk = np.array([(costs >= event).sum() for event in events], dtype=np.int64)
    shares = survival.probabilities[np.searchsorted(survival.quantiles, events)] if len(events) else np.empty(0)
    return SurvivalCurve(events, np.asarray(shares, dtype=float), at_risk)


def restricted_mean(cost: ArrayLike, observed: ArrayLike, tau: float) -> float:
    """Mean of min(T, tau): the area under the Kaplan-Meier curve up to tau.

    Where every trial that missed was seen until tau, it is the plain mean.

    Raises: ValueError: if the last trial was lost before tau, for then the curve ends there.
    """
    costs, is_observed = np.asarray(cost, dtype=float), np.asarray(observed, dtype=bool)
    curve = kaplan_meier(costs, is_observed)
    is_known_to_tau = costs.max() >= tau or bool(is_observed[costs == costs.max()].all())
    if not is_known_to_tau:
        raise ValueError(f"the last trial was lost at {costs.max():g}, before {tau:g}")
    edges = np.concatenate([[0.0], curve.cost[curve.cost < tau], [tau]])
    heights = np.concatenate([[1.0], curve.share[curve.cost < tau]])
    return float((np.diff(edges) * heights).sum())


def log_rank(
    cost: ArrayLike, observed: ArrayLike, other_cost: ArrayLike, other_observed: ArrayLike
) -> tuple[float, float]:
    """The log-rank test that two groups reach the target alike. Returns: chi-squared with one degree of freedom, p."""
    found = stats.logrank(
        _censored(np.asarray(cost, dtype=float), np.asarray(observed, dtype=bool)),
        _censored(np.asarray(other_cost, dtype=float), np.asarray(other_observed, dtype=bool)),
    )
    return float(found.statistic) ** 2, float(found.pvalue)


def of_trials(times: pd.DataFrame) -> tuple[Floats, NDArray[np.bool_]]:
    """Costs [N] and whether the target was reached at them [N], from rows of `analysis.findings.trial_times`.

    A trial that ran to its end or diverged without is seen until its budget.

    Raises: UserError: if a trial was stopped because of its own accuracy before it reached the target.
    """
    stopped = _stopped(times)
    if len(stopped):
        statuses = ", ".join(sorted(set(stopped["status"])))
        raise UserError(
            f"{len(stopped)} of {len(times)} trials are {statuses}: they were stopped because of their own accuracy, "
            "so no Kaplan-Meier curve holds for them. Use the bounds of analysis.statistics.censoring, or "
            "trials of phase confirm."
        )
    return times["lower_s"].to_numpy(dtype=float), (~times["censored"].astype(bool)).to_numpy()


def allows_survival(times: pd.DataFrame) -> bool:
    """Whether `of_trials` would take such trials."""
    return _stopped(times).empty


def _stopped(times: pd.DataFrame) -> pd.DataFrame:
    return times[times["status"].isin(STOPPED_STATUSES) & ~times["reached"].astype(bool)]


def _censored(costs: Floats, is_observed: NDArray[np.bool_]) -> stats.CensoredData:
    if not np.isfinite(costs).all():
        raise ValueError(f"costs must be finite, and hold {costs[~np.isfinite(costs)][0]}")
    return stats.CensoredData.right_censored(costs, ~is_observed)
