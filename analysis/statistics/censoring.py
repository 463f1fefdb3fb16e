"""Bounds on min(T, tau) for every trial, also if it missed the target or was stopped.

T is the time to accuracy, tau the budget of the sweep, both in reference seconds. Survival curves do not allow stops
that depend on the trial's own accuracy (early stopping, capping). Such a trial only bounds its time from both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from kdas.records import Status

# With these statuses a miss is final: the trial ran to its end, or diverged.
_MISSED_FOR_SURE = frozenset({Status.BUDGET, Status.DIVERGED})
# Sums of the same costs in another order differ by less.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Bounds:
    """min(T, tau) is in [lower_s, upper_s], reference seconds.

    `reached`: the trial reached the target within the budget. `censored`: T itself is unknown. `gap_s`: from the
    evaluation before the hit to the hit, 0 without one. `price_rounds` [R]: the trial's cost at the prices of each
    round, as a part of its cost; empty if unknown.
    """

    lower_s: float
    upper_s: float
    reached: bool
    censored: bool
    gap_s: float = 0.0
    price_rounds: tuple[float, ...] = ()


@dataclass(frozen=True)
class MeanBounds:
    """The mean of min(T, tau) over the trials of one configuration is in [lower_s, upper_s], reference seconds."""

    lower_s: float
    upper_s: float
    num_reached: int
    num_trials: int


def bounds(status: Status, tta_ref_s: float, last_cost_ref_s: float, budget_ref_s: float, gap_s: float = 0.0) -> Bounds:
    """The bounds on one trial's restricted time.

    A reached target stays reached, whatever happened to the trial afterwards; a hit beyond the budget is a miss. A
    trial that is recorded as reached but has no hit in its curve (the tables were written while it ran) counts as
    running.

    Args: tta_ref_s: inf if not reached; last_cost_ref_s: cost of the trial's last evaluation; gap_s: before the hit.
    """
    if is_within(tta_ref_s, budget_ref_s):
        restricted_s = min(tta_ref_s, budget_ref_s)
        return Bounds(restricted_s, restricted_s, reached=True, censored=False, gap_s=gap_s)
    is_over = status in _MISSED_FOR_SURE or math.isfinite(tta_ref_s)
    lower_s = budget_ref_s if is_over else min(last_cost_ref_s, budget_ref_s)
    return Bounds(lower_s, budget_ref_s, reached=False, censored=True)


def is_within(tta_ref_s: float, budget_ref_s: float) -> bool:
    """Whether a time lies within the budget. Plain distillation ends at the budget itself, up to rounding."""
    return tta_ref_s <= budget_ref_s * (1 + _ROUNDING)


def mean_bounds(trials: Sequence[Bounds]) -> MeanBounds:
    """The means of the lower and of the upper bounds, NaN if there are no trials."""
    num_trials = len(trials)
    if not num_trials:
        return MeanBounds(math.nan, math.nan, 0, 0)
    return MeanBounds(
        lower_s=math.fsum(trial.lower_s for trial in trials) / num_trials,
        upper_s=math.fsum(trial.upper_s for trial in trials) / num_trials,
        num_reached=sum(trial.reached for trial in trials),
        num_trials=num_trials,
    )
