"""A confirmation that looks at its seeds several times: when its claim is decided, and when it is not worth deciding.

The claim is about restricted times to the target, paired by seed: a candidate is faster than all of plain distillation,
or the other way round. It may be read at every look, so each reading is stricter than a single one would be: all looks
have the same level (Pocock, Biometrika 1977), here for Student's t. docs/measuring.md says what follows.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# `scipy.special` takes most of a second to load: scipy loads it when an early decision needs it.
import scipy
from numpy.typing import NDArray

# The probability, over all looks and comparisons, of a claim where nothing differs.
ERROR = 0.05
# Below this probability of a decision, further seeds are not worth their cost.
LEAST_CHANCE = 0.1
# Up to this many seeds, each further seed is a look: there a decision saves most.
ONE_BY_ONE = 10
# Simulated confirmations, and how many of them must cross a level for it to be read off.
_NUM_PATHS, _LEAST_CROSSING = 2**20, 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Times:
    """Bounds on the restricted times of a configuration, one for each seed, in the same order for all.

    `gap_s`: mean time between the evaluation that met the target and the one before, 0 for a miss. The target was met
    perhaps that much sooner.
    """

    lower_s: Floats
    upper_s: Floats
    gap_s: float = 0.0


def looks_between(least: int, most: int) -> tuple[int, ...]:
    """The numbers of seeds after which the confirmation looks: each up to `ONE_BY_ONE`, then a quarter more."""
    looks = [least]
    while looks[-1] < most:
        looks.append(min(most, looks[-1] + (1 if looks[-1] < ONE_BY_ONE else looks[-1] // 4)))
    return tuple(looks)


@functools.cache
def level_at(looks: tuple[int, ...], num_comparisons: int) -> float:
    """The two-sided level of a paired t test at each look.

    A comparison without a difference is below it, at any of the looks, with probability `ERROR / num_comparisons`.

    Args: looks: numbers of pairs, ascending, at least 2.
    """
    error = ERROR / num_comparisons
    if len(looks) == 1:
        return error
    if error * _NUM_PATHS < _LEAST_CROSSING:
        return error / len(looks)
    return float(np.quantile(_smallest_p(looks), error))


@functools.lru_cache(maxsize=4)
def _smallest_p(looks: tuple[int, ...]) -> Floats:
    """The smallest p over all looks of simulated differences around 0, [_NUM_PATHS]; 1 where it is over `ERROR`."""
    draw = np.random.default_rng(0)
    smallest, total, squares = np.ones(_NUM_PATHS), np.zeros(_NUM_PATHS), np.zeros(_NUM_PATHS)
    for before, num_pairs in itertools.pairwise((0, *looks)):
        num_new = num_pairs - before
        new = math.sqrt(num_new) * draw.standard_normal(_NUM_PATHS)
        total += new
        # Of independent normal numbers, the sum and the squares about their mean are independent.
        squares += new**2 / num_new + (draw.chisquare(num_new - 1, _NUM_PATHS) if num_new > 1 else 0.0)
        t = np.abs(total) * np.sqrt((num_pairs - 1) / (num_pairs * squares - total**2))
        small = np.flatnonzero(t > _threshold(num_pairs, ERROR))
        smallest[small] = np.minimum(smallest[small], 2 * scipy.special.stdtr(num_pairs - 1, -t[small]))
    return smallest


@functools.cache
def _threshold(num_pairs: int, level: float) -> float:
    """The value of t that a difference must exceed."""
    return float(scipy.special.stdtrit(num_pairs - 1, 1 - level / 2))


def is_decided(plain: Sequence[Times], candidates: Sequence[Times], level: float) -> bool:
    """Whether the candidate with the smallest mean is faster than every plain one, or the other way round.

    Args: level: two-sided, of each comparison. Neither list may be empty.
    """
    return _beats_all(_fastest(candidates), plain, level) or _beats_all(_fastest(plain), candidates, level)


def chance_of_decision(
    plain: Sequence[Times], candidates: Sequence[Times], level: float, later: Sequence[int]
) -> float:
    """The probability that one of the later looks decides, if differences continue with the mean and spread so far.

    The mean so far is uncertain, and so is what it predicts. Args: later: numbers of pairs, more than there are.
    """

    def best(these: Sequence[Times], those: Sequence[Times]) -> float:
        return max(min(_chance(each, other, level, later) for other in those) for each in these)

    return min(1.0, best(candidates, plain) + best(plain, candidates))


def _fastest(configurations: Sequence[Times]) -> Times:
    return min(configurations, key=lambda each: float(each.upper_s.mean()))


def _beats_all(one: Times, others: Sequence[Times], level: float) -> bool:
    return all(_beats(one, other, level) for other in others)


def _gain(one: Times, other: Times) -> tuple[float, float, int]:
    """Mean and standard deviation of the seconds that one saves, every doubt against it, and the number of pairs."""
    gains = other.lower_s - _ratio_to_exceed(one, other) * one.upper_s
    return float(gains.mean()), float(gains.std(ddof=1)), len(gains)


def _ratio_to_exceed(one: Times, other: Times) -> float:
    """1, or more where the slower one perhaps met the target well before the evaluation that shows it.

    The report widens the interval of the ratio for that, in quadrature on the log scale. Its end is beyond 1 exactly if
    the end of the interval without it is beyond this ratio.
    """
    if not other.gap_s:
        return 1.0
    slower_s, faster_s = float(other.lower_s.mean()), float(one.upper_s.mean())
    # A target that is met at every first evaluation is perhaps met at once: no ratio says anything.
    grid, ratio = -math.log(max(1e-9, 1 - other.gap_s / slower_s)), math.log(slower_s / faster_s)
    return math.exp(grid if ratio <= grid else ratio - math.sqrt(ratio**2 - grid**2))


def _beats(one: Times, other: Times, level: float) -> bool:
    mean, deviation, num_pairs = _gain(one, other)
    return mean > 0 and mean * math.sqrt(num_pairs) > _threshold(num_pairs, level) * deviation


def _chance(one: Times, other: Times, level: float, later: Sequence[int]) -> float:
    mean, deviation, num_pairs = _gain(one, other)
    if deviation == 0:
        return float(mean > 0)

    def at(look: int) -> float:
        needed = _threshold(look, level) * deviation / math.sqrt(look)
        # Of the mean at that look, given the mean so far.
        spread = deviation * math.sqrt(1 / num_pairs - 1 / look)
        return float(scipy.special.ndtr((mean - needed) / spread))

    return max(map(at, later), default=0.0)
