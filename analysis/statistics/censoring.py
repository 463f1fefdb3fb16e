"""What a trial that may have missed the target still says about its time: bounds on min(T, tau).

T is the time to accuracy, tau the budget of the sweep, both in reference seconds. A stop that depends on the trial's
own accuracy (early stopping, capping) is not the kind of censoring that survival curves allow, so such a trial only
bounds its time from both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdas.records import Status

# Statuses under which a miss is known to last to the budget: it ran to its end, or can no longer come back.
_MISSED_FOR_SURE = frozenset({Status.BUDGET, Status.DIVERGED})


@dataclass(frozen=True)
class Bounds:
    """min(T, tau) lies in [lower_s, upper_s], reference seconds.

    `reached`: the trial reached the target. `censored`: T itself was not seen.
    """

    lower_s: float
    upper_s: float
    reached: bool
    censored: bool


@dataclass(frozen=True)
class MeanBounds:
    """The mean of min(T, tau) over the trials of one configuration lies in [lower_s, upper_s], reference seconds."""

    lower_s: float
    upper_s: float
    num_reached: int
    num_trials: int


def bounds(status: Status, tta_ref_s: float, last_cost_ref_s: float, budget_ref_s: float) -> Bounds:
    """The bounds that one trial puts on its restricted time.

    A target that was reached stays reached, whatever happened to the trial afterwards. A trial that is recorded as
    reached and whose curve holds no hit (a table written in between) counts as still running.

    Args: tta_ref_s: inf if not reached; last_cost_ref_s: cost of the trial's last evaluation.
    """
    if math.isfinite(tta_ref_s):
        restricted_s = min(tta_ref_s, budget_ref_s)
        # A trial ends with the first batch at its budget, and may reach the target with that one.
        return Bounds(restricted_s, restricted_s, reached=True, censored=False)
    lower_s = budget_ref_s if status in _MISSED_FOR_SURE else min(last_cost_ref_s, budget_ref_s)
    return Bounds(lower_s, budget_ref_s, reached=False, censored=True)


def mean_bounds(trials: Sequence[Bounds]) -> MeanBounds:
    """The mean of the lower and of the upper bounds, NaN for no trials."""
    num_trials = len(trials)
    if not num_trials:
        return MeanBounds(math.nan, math.nan, 0, 0)
    return MeanBounds(
        lower_s=math.fsum(trial.lower_s for trial in trials) / num_trials,
        upper_s=math.fsum(trial.upper_s for trial in trials) / num_trials,
        num_reached=sum(trial.reached for trial in trials),
        num_trials=num_trials,
    )


def olympic_mean(times: Sequence[float]) -> float:
    """The mean without the smallest and the largest, as MLPerf takes it over its runs.

    Raises: ValueError: for fewer than three times.
    """
    if len(times) < 3:
        raise ValueError(f"an olympic mean takes at least three times, and {len(times)} are given")
    return math.fsum(sorted(times)[1:-1]) / (len(times) - 2)
