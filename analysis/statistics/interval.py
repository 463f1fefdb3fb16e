"""The interval of a ratio of times: over seeds, then widened by the evaluation grid and by the prices.

All functions take restricted times of two settings, paired by seed, in their last axis [..., n]; leading axes are
independent comparisons. A ratio is baseline over candidate: above 1 the candidate is faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

# The two-sided level of one comparison alone. Of k comparisons, each is read at a k-th of it.
LEVEL = 0.05
# No smaller p is told apart from 0.
_SMALLEST_P = 1e-12

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Doubt:
    """Errors of a ratio that no number of seeds averages away, on the scale of its logarithm.

    - `grid_low`, `grid_high`: how much lower and higher the ratio would be had each curve crossed the target right
      after the evaluation before its hit; infinite if nothing was evaluated before.
    - `price_error`: standard error of the logarithm over `num_rounds` rounds of price measurement.
    """

    grid_low: float | Floats = 0.0
    grid_high: float | Floats = 0.0
    price_error: float | Floats = 0.0
    num_rounds: int = 0

    def price_half(self, level: float) -> float | Floats:
        """Half the width of the interval of the prices alone; 0 if their error is not known."""
        return quantile(level, self.num_rounds) * self.price_error if self.num_rounds > 1 else 0.0


def price_doubt(log_ratios: Floats) -> Floats:
    """The standard error of a ratio's logarithm. Args: log_ratios [..., R]: by the prices of each round.

    They are deviations from the recorded prices, which the ratio uses, so they need not have the mean 0.
    """
    num_rounds = log_ratios.shape[-1]
    return np.asarray(np.sqrt((log_ratios**2).sum(axis=-1) / (num_rounds * (num_rounds - 1))))


NO_DOUBT = Doubt()


def grid_doubt(gaps_s: ArrayLike, times_s: ArrayLike) -> Floats:
    """The logarithm by which sums of times may be too large if their curves crossed anywhere in `gaps_s` before."""
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.divide(gaps_s, times_s)
        return np.asarray(-np.log1p(-np.clip(np.nan_to_num(part), 0.0, 1.0)))


def ratio_of_sums(baseline_s: Floats, candidate_s: Floats) -> Floats:
    """sum(baseline_s) / sum(candidate_s), [...]; inf if only the candidate's sum is 0, NaN if both are."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.divide(baseline_s.sum(axis=-1), candidate_s.sum(axis=-1)))


def ratio_interval(baseline_s: Floats, candidate_s: Floats, level: float = LEVEL) -> tuple[Floats, Floats]:
    """Interval of the ratio of sums over seeds: all r for which a t-test allows baseline - r * candidate the mean 0.

    Swapping the two inverts it. If a t-test cannot tell the candidate's mean from 0, the upper end is inf. Equal ratios
    in all pairs give [ratio, ratio]. One pair gives NaN, since it shows no spread between seeds.

    Args: level: two-sided probability of an interval that does not hold the true ratio.
    Returns: the ends, each [...].
    Source: Fieller, "Some problems in interval estimation", 1954.
    """
    ratio, num_pairs = ratio_of_sums(baseline_s, candidate_s), baseline_s.shape[-1]
    if num_pairs < 2:
        return np.full_like(ratio, np.nan), np.full_like(ratio, np.nan)
    of_baseline, of_candidate = baseline_s.mean(axis=-1), candidate_s.mean(axis=-1)
    first, second = baseline_s - of_baseline[..., None], candidate_s - of_candidate[..., None]
    factor = quantile(level, num_pairs) ** 2 / (num_pairs * (num_pairs - 1))
    # The interval is where square * r**2 - 2 * cross * r + rest <= 0.
    square = of_candidate**2 - factor * (second**2).sum(axis=-1)
    rest = of_baseline**2 - factor * (first**2).sum(axis=-1)
    cross = of_baseline * of_candidate - factor * (first * second).sum(axis=-1)
    far = cross + np.sqrt(np.maximum(cross**2 - square * rest, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # In this form, no finite end is divided by a coefficient that can be 0.
        low = np.where((rest > 0) & (far > 0), rest / far, 0.0)
        high = np.where(square > 0, far / square, np.inf)
        is_exact = np.isclose(baseline_s, ratio[..., None] * candidate_s, rtol=1e-12, atol=0).all(axis=-1)
    is_exact |= ~np.isfinite(ratio) | (ratio == 0)
    return np.where(is_exact, ratio, low), np.where(is_exact, ratio, high)


def joint_interval(
    baseline_s: Floats, candidate_s: Floats, level: float = LEVEL, doubt: Doubt = NO_DOUBT
) -> tuple[Floats, Floats]:
    """`ratio_interval`, widened by the grid and by the prices: the interval that is quoted.

    The three errors have separate causes, so their widths add in squares, on the scale of the logarithm. Times that
    fall on the same evaluation show no spread, though they have one: the part over seeds is never narrower than that of
    times which are spread evenly over the gaps.
    """
    ratio = ratio_of_sums(baseline_s, candidate_s)
    low, high = ratio_interval(baseline_s, candidate_s, level)
    of_prices, num_pairs = doubt.price_half(level), baseline_s.shape[-1]
    gaps = np.hypot(np.expm1(-np.asarray(doubt.grid_low)), np.expm1(-np.asarray(doubt.grid_high)))
    least = quantile(level, num_pairs) * gaps / math.sqrt(12 * num_pairs) if num_pairs > 1 else 0.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        below = np.sqrt(np.maximum(np.log(ratio / low), least) ** 2 + doubt.grid_low**2 + of_prices**2)
        above = np.sqrt(np.maximum(np.log(high / ratio), least) ** 2 + doubt.grid_high**2 + of_prices**2)
        wide = ratio * np.exp(-below), ratio * np.exp(above)
    is_degenerate = ~np.isfinite(ratio) | (ratio == 0)
    return np.where(is_degenerate, low, wide[0]), np.where(is_degenerate, high, wide[1])


def least_level(baseline_s: Floats, candidate_s: Floats, doubt: Doubt = NO_DOUBT, most: float = 1.0) -> float:
    """The smallest level at which `joint_interval` of one comparison excludes 1, NaN for one pair.

    Args: most: levels above it are not told apart; 1 stands for all of them, and for none.
    """
    if len(baseline_s) < 2:
        return math.nan
    ratio = float(ratio_of_sums(baseline_s, candidate_s))

    def room(log_level: float) -> float:
        low, high = joint_interval(baseline_s, candidate_s, math.exp(log_level), doubt)
        # How far 1 lies inside the interval; a bounded form, since an end may be 0 or infinite.
        return float(1 - low if ratio > 1 else 1 - 1 / high if high else -1.0)

    smallest, largest = math.log(_SMALLEST_P), math.log(most) - 1e-9
    if math.isnan(ratio) or ratio == 1 or room(largest) >= 0:
        return 1.0
    return math.exp(optimize.brentq(room, smallest, largest, xtol=1e-9)) if room(smallest) > 0 else _SMALLEST_P


def quantile(level: float, number: int) -> float:
    """Student's t: the quantile that `number` values leave in each tail at a two-sided level."""
    return -float(special.stdtrit(number - 1, level / 2))
