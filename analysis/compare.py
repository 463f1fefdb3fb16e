"""Compare two configurations seed by seed: how much faster the candidate is than the baseline, and how surely.

A ratio is baseline over candidate: above 1 the candidate is faster. Where a trial only bounds its restricted time
min(T, tau), every doubt counts against the candidate: the baseline enters with its lower bound and the candidate with
its upper one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.censoring import Bounds

CONFIDENCE = 0.95
NUM_RESAMPLES = 9_999
# Up to here all n**n resamples (46,656) are cheaper than drawing, and leave no chance in the interval.
MAX_ENUMERATED_PAIRS = 6
# Up to here all 2**n flips are counted; beyond, as many random ones as resamples.
MAX_ENUMERATED_FLIPS = 20

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """A candidate held against the baseline over the seeds that both have.

    `ratio` of sums of restricted times (NaN if no trial of either reached) with its 95% interval (NaN for fewer than
    two pairs); `mark` says which way the misses push it, see `mark`; the geometric mean of the pairs' ratios with its
    95% t-interval is NaN unless all reached; `p_faster` is the share of pairs that the candidate wins, ties half;
    `p_value` is two-sided.
    """

    num_pairs: int
    mark: str
    ratio: float
    ratio_low: float
    ratio_high: float
    geometric_ratio: float
    geometric_low: float
    geometric_high: float
    p_faster: float
    p_value: float


def compare(
    baseline: Mapping[int, Bounds], candidate: Mapping[int, Bounds], *, generator: np.random.Generator
) -> Comparison:
    """Compare over the common seeds; seeds that only one side has are left out, and `num_pairs` says so.

    Args: baseline, candidate: seed -> bounds on its restricted time; generator: draws resamples beyond 6 pairs.
    """
    seeds = sorted(baseline.keys() & candidate.keys())
    if not seeds:
        return Comparison(0, "", *itertools.repeat(math.nan, 8))
    baseline_bounds, candidate_bounds = [baseline[seed] for seed in seeds], [candidate[seed] for seed in seeds]
    baseline_s = np.array([bound.lower_s for bound in baseline_bounds])
    candidate_s = np.array([bound.upper_s for bound in candidate_bounds])
    missed = [bound.censored for bound in (*baseline_bounds, *candidate_bounds)]
    nothing = (math.nan, math.nan, math.nan)
    ratio = (
        ratio_of_sums(baseline_s, candidate_s),
        *bootstrap_interval(baseline_s, candidate_s, generator=generator),
    )
    return Comparison(
        len(seeds),
        mark(baseline_bounds, candidate_bounds),
        # The budget over the budget is 1, and says nothing of two settings that never reached the target.
        *(nothing if all(missed) else ratio),
        *(nothing if any(missed) else geometric_mean(baseline_s, candidate_s)),
        p_faster(baseline_s, candidate_s),
        sign_flip_p(baseline_s - candidate_s, generator=generator),
    )


def mark(baseline: Sequence[Bounds], candidate: Sequence[Bounds]) -> str:
    """What the ratio of restricted times says about the ratio of the times themselves.

    Returns: "" equal; ">=" the baseline missed, so the true ratio is at least this; "<=" the candidate missed, so at
        most; "~" both missed, or a trial of the candidate stopped before its budget, so neither.
    """
    baseline_missed = any(bound.censored for bound in baseline)
    candidate_missed = any(bound.censored for bound in candidate)
    candidate_stopped = any(bound.lower_s < bound.upper_s for bound in candidate)
    if candidate_stopped or (baseline_missed and candidate_missed):
        return "~"
    return ">=" if baseline_missed else "<=" if candidate_missed else ""


def ratio_of_sums(baseline_s: Floats, candidate_s: Floats) -> float:
    """sum(baseline_s) / sum(candidate_s), both [n]; NaN if the candidate's sum is 0."""
    total_s = float(candidate_s.sum())
    return float(baseline_s.sum()) / total_s if total_s else math.nan


def bootstrap_interval(
    baseline_s: Floats, candidate_s: Floats, *, generator: np.random.Generator
) -> tuple[float, float]:
    """95% percentile interval of the ratio of sums, resampling seeds with both their times.

    Equal ratios in all pairs give the degenerate interval [ratio, ratio]; one pair gives (NaN, NaN), for one seed
    says nothing about another.
    """
    num_pairs = len(baseline_s)
    if num_pairs < 2 or not candidate_s.all():
        return math.nan, math.nan
    if num_pairs <= MAX_ENUMERATED_PAIRS:
        resamples = np.array(list(itertools.product(range(num_pairs), repeat=num_pairs)))
    else:
        resamples = generator.integers(0, num_pairs, size=(NUM_RESAMPLES, num_pairs))
    ratios = baseline_s[resamples].sum(axis=1) / candidate_s[resamples].sum(axis=1)
    low, high = np.quantile(ratios, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def geometric_mean(baseline_s: Floats, candidate_s: Floats) -> tuple[float, float, float]:
    """Geometric mean of the pairs' ratios with the 95% t-interval of the mean of their logarithms.

    Returns: (mean, low, high); low and high are NaN for one pair, all three if a time is 0.
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
    """Share of pairs in which the candidate is faster; a tie, also of two misses, counts one half."""
    return float((candidate_s < baseline_s).mean() + (candidate_s == baseline_s).mean() / 2)


def sign_flip_p(differences_s: Floats, *, generator: np.random.Generator) -> float:
    """Two-sided sign-flip test that the pairs' differences [n] are symmetric around 0.

    Exact up to 20 pairs. With n pairs p is at least 2 / 2**n: 0.0625 for five, however large the effect.
    """
    if len(differences_s) > MAX_ENUMERATED_FLIPS:
        signs = generator.choice([-1.0, 1.0], size=(NUM_RESAMPLES, len(differences_s)))
        # The observed signs are one of the flips, so that p can never be 0.
        sums = np.append(signs @ differences_s, differences_s.sum())
    else:
        sums = np.zeros(1)
        for difference_s in differences_s:
            sums = np.concatenate([sums + difference_s, sums - difference_s])
    # Sums of the same numbers in another order differ in their last bits; they are still ties.
    slack = 1e-9 * float(np.abs(differences_s).sum())
    return float((np.abs(sums) + slack >= abs(differences_s.sum())).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values for the number of comparisons; NaN stays NaN and is not counted."""
    tested = sorted((p_value, index) for index, p_value in enumerate(p_values) if not math.isnan(p_value))
    corrected = [math.nan] * len(p_values)
    so_far = 0.0
    for rank, (p_value, index) in enumerate(tested):
        so_far = max(so_far, min(1.0, p_value * (len(tested) - rank)))
        corrected[index] = so_far
    return corrected
