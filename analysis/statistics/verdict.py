"""What several settings, compared on the same seeds, allow to be claimed.

Whoever is claimed to be fastest and is not has beaten the setting that is. There are at most m - 1 such false winners
among m settings, so with each comparison at the (m - 1)-th part of a level, all claims together keep that level.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from analysis.statistics.interval import LEVEL, Floats, quantile

# The share of sweeps in which a speed-up of the size that `detectable_ratio` gives is shown.
POWER = 0.8
_LARGEST_RATIO = 100.0


@dataclass(frozen=True)
class Verdict:
    """Positions of settings, None for nobody.

    - `reference`: the fastest of the plain settings.
    - `winner`: faster beyond doubt than every plain setting, or, if it is itself plain, than every other setting.
    - `is_fastest`: the winner is faster beyond doubt than every other setting.
    - `rival`: the fastest of the settings that the winner is not distinguishable from.
    - `best`: the fastest of the settings that are not plain, claimed or not.
    """

    reference: int | None
    winner: int | None
    is_fastest: bool
    rival: int | None
    best: int | None


def decide(mean_s: Sequence[float], is_plain: Sequence[bool], beats: Callable[[int, int], bool]) -> Verdict:
    """The claims that hold.

    Args: mean_s [m]: mean restricted times, upper bounds; is_plain [m]; beats: whether one setting is faster than
        another beyond doubt, by an interval at the simultaneous level.
    """
    order = sorted(range(len(mean_s)), key=lambda each: mean_s[each])
    plain = [each for each in order if is_plain[each]]
    others = [each for each in order if not is_plain[each]]
    reference, best = next(iter(plain), None), next(iter(others), None)
    winner = next((each for each in others if plain and all(beats(each, one) for one in plain)), None)
    if winner is None:
        # Only the first in the order can be faster than all others.
        first = next(iter(order), None)
        is_first = first is not None and len(order) > 1 and all(beats(first, each) for each in order[1:])
        return Verdict(reference, first if is_first else None, is_first, None, best)
    unbeaten = [each for each in order if each != winner and not beats(winner, each)]
    return Verdict(reference, winner, not unbeaten, next(iter(unbeaten), None), best)


def slower_than(reference: int | None, is_plain: Sequence[bool], beats: Callable[[int, int], bool]) -> tuple[int, ...]:
    """The settings, none of them plain, that are slower beyond doubt than the reference.

    Args: beats: as in `decide`, but at `level_of_slower`.
    """
    if reference is None:
        return ()
    return tuple(each for each, plain in enumerate(is_plain) if not plain and beats(reference, each))


def level_of_slower(level: float, num_plain: int) -> float:
    """The two-sided level at which a setting is called slower than the plain setting that came out fastest.

    A reference that was chosen as the fastest of several looks too fast, and then the others look too slow. Reading
    each comparison at a part of the level allows for every choice.
    """
    return level / max(num_plain, 1)


def simultaneous_level(num_settings: int, level: float = LEVEL) -> float:
    """The two-sided level at which each comparison of several settings is read."""
    return level / max(num_settings - 1, 1)


def spread(times_s: Floats) -> tuple[float, float]:
    """The coefficient of variation over seeds and the correlation between settings, pooled.

    Args: times_s [m, n]: restricted times of m settings on the same n seeds.
    Returns: both, NaN for fewer than two seeds or settings; the correlation in [0, 1).
    """
    if min(times_s.shape) < 2 or not times_s.all():
        return math.nan, math.nan
    parts = times_s / times_s.mean(axis=1, keepdims=True)
    covariance = np.cov(parts)
    variance = float(np.diag(covariance).mean())
    shared = float(covariance[~np.eye(len(parts), dtype=bool)].mean())
    return math.sqrt(variance), min(max(shared / variance, 0.0), 0.99) if variance else 0.0


def detectable_ratio(
    variation: float, correlation: float, num_pairs: int, level: float, other: float = 0.0, num_others: int = 1
) -> float:
    """The true ratio that this many seeds show to be above 1 in `POWER` of sweeps, inf if there is none.

    Args: variation, correlation: of `spread`; level: two-sided, of one comparison; other: half the width, on the scale
        of the logarithm, that grid and prices give the interval; num_others: equally fast settings, each of which has
        to be beaten. They are counted as independent: in simulations, all are beaten in 80 to 82% of sweeps.
    """
    if num_pairs < 2 or math.isnan(variation):
        return math.nan
    critical, degrees, needed = quantile(level, num_pairs), num_pairs - 1, math.pow(POWER, 1 / max(num_others, 1))

    def lacks(ratio: float) -> float:
        deviation = variation * math.sqrt(ratio**2 + 1 - 2 * correlation * ratio)
        noncentral = math.sqrt(num_pairs) * (ratio - 1) / deviation if deviation else math.inf
        return needed - float(stats.nct.sf(critical, degrees, min(noncentral, 1e3)))

    if lacks(_LARGEST_RATIO) > 0:
        return math.inf
    of_seeds = optimize.brentq(lacks, 1.0, _LARGEST_RATIO) if variation else 1.0
    return math.exp(math.hypot(math.log(of_seeds), other))
