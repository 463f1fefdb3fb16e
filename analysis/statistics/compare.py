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

CONFIDENCE = 0.95
NUM_RESAMPLES = 9_999
# Up to this many pairs, enumerating all n**n resamples (46,656) is cheaper than drawing, and exact.
MAX_ENUMERATED_PAIRS = 6
# Up to this many pairs all 2**n flips are counted; beyond, NUM_RESAMPLES random ones.
MAX_ENUMERATED_FLIPS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A candidate compared with the baseline over their common seeds.

    - `mark`: which way misses bias the ratio, see `mark`.
    - `ratio`: of sums of restricted times, every doubt against the candidate; NaN if no trial of either reached.
    - `ratio_at_most`: the same with every doubt in its favour; equal if every trial's time is known.
    - `ratio_low`, `ratio_high`: its 95% interval, see `ratio_interval`; the span of both intervals if the two ratios
      differ; NaN for fewer than two pairs.
    - `bootstrap_low`, `bootstrap_high`: the bootstrap interval, too narrow for few seeds.
    - `geometric_*`: geometric mean of the pairs' ratios and its 95% t-interval; NaN unless all trials reached.
    - `p_faster`: share of pairs that the candidate wins, ties count half, every doubt against the candidate.
    - `p_value`: two-sided, every doubt against a difference.
    """

    num_pairs: int
    mark: str
    ratio: float
    ratio_at_most: float
    ratio_low: float
    ratio_high: float
    bootstrap_low: float
    bootstrap_high: float
    geometric_ratio: float
    geometric_low: float
    geometric_high: float
    p_faster: float
    p_value: float


def compare(
    baseline: Mapping[int, Bounds], candidate: Mapping[int, Bounds], *, generator: np.random.Generator
) -> Comparison:
    """Compare over the common seeds, `num_pairs` of them; seeds that only one side has are left out.

    Args: baseline, candidate: seed -> bounds on its restricted time; generator: draws resamples beyond 6 pairs.
    """
    seeds = sorted(baseline.keys() & candidate.keys())
    if not seeds:
        return Comparison(0, "", *itertools.repeat(math.nan, 11))
    of_baseline, of_candidate = [baseline[seed] for seed in seeds], [candidate[seed] for seed in seeds]
    # Every doubt against the candidate, then every doubt in its favour.
    against = _column(of_baseline, "lower_s"), _column(of_candidate, "upper_s")
    in_favour = _column(of_baseline, "upper_s"), _column(of_candidate, "lower_s")
    intervals = [ratio_interval(*against), ratio_interval(*in_favour)]
    missed = [bound.censored for bound in (*of_baseline, *of_candidate)]
    ratio = [
        ratio_of_sums(*against),
        ratio_of_sums(*in_favour),
        min(low for low, _ in intervals),
        max(high for _, high in intervals),
        *bootstrap_interval(*against, generator=generator),
    ]
    # If neither ever reached the target, budget / budget = 1 would mean nothing.
    numbers = [math.nan] * len(ratio) if all(missed) else ratio
    geometric = [math.nan] * 3 if any(missed) else geometric_mean(*against)
    numbers = [*numbers, *geometric, p_faster(*against), _surest_p(against, in_favour, generator)]
    return Comparison(len(seeds), mark(of_baseline, of_candidate), *numbers)


def _column(bounds: Sequence[Bounds], name: str) -> Floats:
    return np.array([getattr(bound, name) for bound in bounds])


def _surest_p(
    against: tuple[Floats, Floats], in_favour: tuple[Floats, Floats], generator: np.random.Generator
) -> float:
    """The larger p of both readings, 1 if they disagree about which of the two is faster."""
    first, second = against[0] - against[1], in_favour[0] - in_favour[1]
    if np.array_equal(first, second):
        return sign_flip_p(first, generator=generator)
    if first.sum() * second.sum() <= 0:
        return 1.0
    return max(sign_flip_p(each, generator=generator) for each in (first, second))


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


def ratio_of_sums(baseline_s: Floats, candidate_s: Floats) -> float:
    """sum(baseline_s) / sum(candidate_s), both [n]; inf if only the candidate's sum is 0, NaN if both are."""
    baseline_total_s, total_s = float(baseline_s.sum()), float(candidate_s.sum())
    if not total_s:
        return math.inf if baseline_total_s else math.nan
    return baseline_total_s / total_s


def ratio_interval(baseline_s: Floats, candidate_s: Floats) -> tuple[float, float]:
    """95% interval of the ratio of sums: all r for which a t-test allows baseline - r * candidate to have mean 0.

    Swapping the two inverts it. If a t-test cannot tell the candidate's mean from 0, the upper end is inf. Its coverage
    in simulated sweeps, where the bootstrap covers too little for few seeds, is in docs/measuring.md. Equal ratios in
    all pairs give [ratio, ratio]. One pair gives (NaN, NaN), since it shows no spread between seeds.

    Source: Fieller, "Some problems in interval estimation", 1954.
    """
    num_pairs, ratio = len(baseline_s), ratio_of_sums(baseline_s, candidate_s)
    if num_pairs < 2 or math.isnan(ratio):
        return math.nan, math.nan
    if not ratio or math.isinf(ratio) or np.allclose(baseline_s, ratio * candidate_s, rtol=1e-12, atol=0):
        return ratio, ratio
    means = baseline_s.mean(), candidate_s.mean()
    spread = np.cov(baseline_s, candidate_s) * float(stats.t.ppf((1 + CONFIDENCE) / 2, num_pairs - 1)) ** 2 / num_pairs
    # The interval is where square * r**2 - 2 * cross * r + rest <= 0.
    square, rest = float(means[1] ** 2 - spread[1, 1]), float(means[0] ** 2 - spread[0, 0])
    cross = float(means[0] * means[1] - spread[0, 1])
    root = math.sqrt(max(cross**2 - square * rest, 0.0))
    # In this form, no finite end is divided by a coefficient that can be 0.
    low = rest / (cross + root) if rest > 0 and cross + root > 0 else 0.0
    high = (cross + root) / square if square > 0 else math.inf
    return low, high


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
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
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
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def p_faster(baseline_s: Floats, candidate_s: Floats) -> float:
    """Share of pairs in which the candidate is faster; a tie (also two misses) counts half."""
    return float((candidate_s < baseline_s).mean() + (candidate_s == baseline_s).mean() / 2)


def sign_flip_p(differences_s: Floats, *, generator: np.random.Generator) -> float:
    """Two-sided sign-flip test that the pairs' differences [n] are symmetric around 0.

    Exact up to 20 pairs. With n pairs p is at least 2 / 2**n, however large the effect: 0.0625 for five pairs.
    """
    if len(differences_s) > MAX_ENUMERATED_FLIPS:
        signs = generator.choice([-1.0, 1.0], size=(NUM_RESAMPLES, len(differences_s)))
        # The observed signs are one of the flips, so p is never 0.
        sums = np.append(signs @ differences_s, differences_s.sum())
    else:
        # Flipping all signs keeps the distance from 0, so half of the flips are enough.
        sums = differences_s[:1]
        for difference_s in differences_s[1:]:
            sums = np.concatenate([sums + difference_s, sums - difference_s])
    # Sums in another order differ in their last bits; they still count as ties.
    slack = 1e-9 * float(np.abs(differences_s).sum())
    return float((np.abs(sums) + slack >= abs(differences_s.sum())).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values for the number of comparisons; NaN stays NaN and does not count."""
    tested = sorted((p_value, index) for index, p_value in enumerate(p_values) if not math.isnan(p_value))
    corrected = [math.nan] * len(p_values)
    so_far = 0.0
    for rank, (p_value, index) in enumerate(tested):
        so_far = max(so_far, min(1.0, p_value * (len(tested) - rank)))
        corrected[index] = so_far
    return corrected
