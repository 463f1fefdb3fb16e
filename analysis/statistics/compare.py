"""Compare two configurations seed by seed: how much faster the candidate is than the baseline, and how certain that is.

A ratio is baseline over candidate: above 1 the candidate is faster. If a trial only bounds its restricted time
min(T, tau), the ratio is computed twice: with every doubt against the candidate (the baseline at its lower bound, the
candidate at its upper bound), which is the quoted ratio, and with every doubt in its favour.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.statistics.censoring import Bounds
from analysis.statistics.interval import (
    LEVEL,
    Doubt,
    Floats,
    grid_doubt,
    joint_interval,
    least_level,
    price_doubt,
    ratio_interval,
    ratio_of_sums,
)

NUM_RESAMPLES = 9_999
# Up to this many pairs, enumerating all n**n resamples (46,656) is cheaper than drawing, and exact.
MAX_ENUMERATED_PAIRS = 6


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with the baseline over their common seeds.

    - `mark`: which way misses bias the ratio, see `mark`.
    - `ratio`: of sums of restricted times, every doubt against the candidate; NaN if no trial of either reached.
    - `ratio_at_most`: the same with every doubt in its favour; equal if every trial's time is known.
    - `ratio_low`, `ratio_high`: its interval at the level asked for, see `joint_interval`; the span of both intervals
      if the two ratios differ; NaN for fewer than two pairs.
    - `seeds_low`, `seeds_high`: the same over seeds alone, without grid and prices.
    - `price_error`: half the width that prices alone give the interval, as a part of the ratio; NaN if not known.
    - `beyond_seeds`: what grid and prices together add below the ratio, on the scale of its logarithm.
    - `bootstrap_low`, `bootstrap_high`: the bootstrap interval of this comparison alone, too narrow for few seeds.
    - `geometric_*`: geometric mean of the pairs' ratios and its 95% t-interval; NaN unless all trials reached.
    - `p_faster`: share of pairs that the candidate wins, ties count half, every doubt against the candidate.
    - `p_value`: two-sided; below `LEVEL` exactly where the interval excludes 1.
    """

    num_pairs: int
    mark: str
    ratio: float
    ratio_at_most: float
    ratio_low: float
    ratio_high: float
    seeds_low: float
    seeds_high: float
    price_error: float
    beyond_seeds: float
    bootstrap_low: float
    bootstrap_high: float
    geometric_ratio: float
    geometric_low: float
    geometric_high: float
    p_faster: float
    p_value: float

    @property
    def is_faster(self) -> bool:
        """Whether the candidate is faster beyond doubt: the interval lies above 1."""
        return self.ratio_low > 1


def compare(
    baseline: Mapping[int, Bounds],
    candidate: Mapping[int, Bounds],
    *,
    level: float = LEVEL,
    generator: np.random.Generator | None = None,
    with_p: bool = True,
) -> Comparison:
    """Compare over the common seeds, `num_pairs` of them; seeds that only one side has are left out.

    Args: baseline, candidate: seed -> bounds on its restricted time; level: two-sided level of the interval, `LEVEL`
        divided by the number of comparisons that are read together; generator: draws resamples beyond 6 pairs. Without
        one there is no bootstrap interval; with_p: p takes most of the time.
    """
    seeds = sorted(baseline.keys() & candidate.keys())
    if not seeds:
        return Comparison(0, "", *itertools.repeat(math.nan, 15))
    of_baseline, of_candidate = [baseline[seed] for seed in seeds], [candidate[seed] for seed in seeds]
    # Every doubt against the candidate, then every doubt in its favour.
    readings = [(_column(of_baseline, first), _column(of_candidate, second)) for first, second in _READINGS]
    against, in_favour = readings
    if np.array_equal(against, in_favour):
        readings = [against]
    missed = [bound.censored for bound in (*of_baseline, *of_candidate)]
    doubts = [_doubt(of_baseline, of_candidate, reading) for reading in readings]
    intervals = [joint_interval(*reading, level, doubt) for reading, doubt in zip(readings, doubts, strict=True)]
    over_seeds = [ratio_interval(*reading, level) for reading in readings]
    numbers = [
        *(float(ratio_of_sums(*reading)) for reading in (against, in_favour)),
        *_span(intervals),
        *_span(over_seeds),
        float(np.expm1(doubts[0].price_half(level))) if doubts[0].num_rounds else math.nan,
        float(np.hypot(doubts[0].grid_low, doubts[0].price_half(level))),
        *(bootstrap_interval(*against, generator=generator) if generator else (math.nan, math.nan)),
    ]
    # If neither ever reached the target, budget / budget = 1 would mean nothing.
    if all(missed):
        numbers = [math.nan] * len(numbers)
    geometric = [math.nan] * 3 if any(missed) else geometric_mean(*against)
    p_value = math.nan if not with_p else 1.0 if all(missed) else _surest_p(readings, doubts, level)
    numbers = [*numbers, *geometric, p_faster(*against), p_value]
    return Comparison(len(seeds), mark(of_baseline, of_candidate), *numbers)


def _span(intervals: Sequence[tuple[Floats, Floats]]) -> tuple[float, float]:
    return min(float(low) for low, _ in intervals), max(float(high) for _, high in intervals)


_READINGS = (("lower_s", "upper_s"), ("upper_s", "lower_s"))


def _column(bounds: Sequence[Bounds], name: str) -> Floats:
    return np.array([getattr(bound, name) for bound in bounds])


def _doubt(of_baseline: Sequence[Bounds], of_candidate: Sequence[Bounds], reading: tuple[Floats, Floats]) -> Doubt:
    """What the evaluation grid and the prices add to the doubt about a ratio."""
    low, high = (
        grid_doubt(math.fsum(bound.gap_s for bound in side), float(times_s.sum()))
        for side, times_s in zip((of_baseline, of_candidate), reading, strict=True)
    )
    num_rounds = min(len(bound.price_rounds) for bound in (*of_baseline, *of_candidate))
    if num_rounds < 2 or not reading[0].sum() or not reading[1].sum():
        return Doubt(low, high)
    first, second = (
        (np.array([bound.price_rounds[:num_rounds] for bound in side]) * times_s[:, None]).sum(axis=0) / times_s.sum()
        for side, times_s in zip((of_baseline, of_candidate), reading, strict=True)
    )
    return Doubt(low, high, price_doubt(np.log(first / second)), num_rounds)


def _surest_p(readings: Sequence[tuple[Floats, Floats]], doubts: Sequence[Doubt], level: float) -> float:
    """The larger p of both readings, 1 if they disagree about which of the two is faster.

    It is scaled so that `LEVEL` is where the interval at `level` excludes 1.
    """
    gains = [float(baseline_s.sum() - candidate_s.sum()) for baseline_s, candidate_s in readings]
    if gains[0] * gains[-1] < 0:
        return 1.0
    # From `level / LEVEL` on, p is 1.
    levels = [
        least_level(*reading, doubt, most=min(1.0, level / LEVEL))
        for reading, doubt in zip(readings, doubts, strict=True)
    ]
    return min(1.0, max(levels) * LEVEL / level)


def mark(baseline: Sequence[Bounds], candidate: Sequence[Bounds]) -> str:
    """How the ratio of restricted times relates to the ratio of the times themselves.

    Returns: "": equal; ">=": the baseline missed, so the true ratio is at least this; "<=": the candidate missed, so it
        is at most this; "~": both missed, so neither; "to": a trial ended before its time was known, so even the ratio
        of restricted times is only bounded.
    """
    if any(bound.lower_s < bound.upper_s for bound in (*baseline, *candidate)):
        return "to"
    baseline_missed = any(bound.censored for bound in baseline)
    candidate_missed = any(bound.censored for bound in candidate)
    if baseline_missed and candidate_missed:
        return "~"
    return ">=" if baseline_missed else "<=" if candidate_missed else ""


def bootstrap_interval(
    baseline_s: Floats, candidate_s: Floats, *, generator: np.random.Generator
) -> tuple[float, float]:
    """95% percentile interval of the ratio of sums, resampling pairs.

    Equal ratios in all pairs give [ratio, ratio]. One pair gives (NaN, NaN), since it shows no spread between seeds.
    """
    num_pairs = len(baseline_s)
    if num_pairs < 2 or not candidate_s.all():
        return math.nan, math.nan
    if num_pairs <= MAX_ENUMERATED_PAIRS:
        resamples = _all_resamples(num_pairs)
    else:
        resamples = generator.integers(0, num_pairs, size=(NUM_RESAMPLES, num_pairs))
    ratios = baseline_s[resamples].sum(axis=1) / candidate_s[resamples].sum(axis=1)
    low, high = np.quantile(ratios, [LEVEL / 2, 1 - LEVEL / 2])
    return float(low), float(high)


@functools.cache
def _all_resamples(num_pairs: int) -> NDArray[np.int64]:
    """Every way to draw n of n pairs with replacement, [n**n, n]."""
    return np.array(list(itertools.product(range(num_pairs), repeat=num_pairs)))


def geometric_mean(baseline_s: Floats, candidate_s: Floats) -> tuple[float, float, float]:
    """Geometric mean of the pairs' ratios, with the 95% t-interval of the mean of their logarithms.

    Returns: (mean, low, high); low and high are NaN for one pair, all three are NaN if a time is 0.
    """
    if not (baseline_s.all() and candidate_s.all()):
        return math.nan, math.nan, math.nan
    logs = np.log(baseline_s / candidate_s)
    mean = float(logs.mean())
    if len(logs) < 2:
        return math.exp(mean), math.nan, math.nan
    half = float(stats.t.isf(LEVEL / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def p_faster(baseline_s: Floats, candidate_s: Floats) -> float:
    """Share of pairs in which the candidate is faster; a tie (also two misses) counts half."""
    return float((candidate_s < baseline_s).mean() + (candidate_s == baseline_s).mean() / 2)
