"""Simulated sweeps in which seeds miss the target: how often the interval over seeds holds the true ratio.

`python -m benchmarks.claims` prints these tables with its own.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.statistics.compare import MAX_ENUMERATED_PAIRS, bootstrap_interval
from analysis.statistics.interval import Floats, ratio_interval

# Beyond `MAX_ENUMERATED_PAIRS`, a bootstrap interval takes a hundred times as long.
_NUM_BOOTSTRAPPED = 2_000


@dataclass(frozen=True)
class Missing:
    """Lognormal times of a baseline and of a candidate that is `speedup` times as fast, restricted to a budget.

    `spread`: deviation of the logarithm; `shared`: the part of its variance that a pair has in common; `missing`: the
    share of the baseline's seeds that do not reach the target within the budget; `failing`: the share of the
    candidate's seeds that never reach it, with a budget of three times the usual time.
    """

    spread: float = 0.3
    shared: float = 0.5
    missing: float = 0.0
    failing: float = 0.0
    speedup: float = 1.3

    def sweeps(self, num_sweeps: int, num_seeds: int, seed: int) -> tuple[Floats, Floats]:
        """Restricted times [num_sweeps, num_seeds] of both."""
        generator = np.random.default_rng(seed)
        common, own, others = generator.standard_normal((3, num_sweeps, num_seeds))
        tau_s = 3.0 if self.failing else np.exp(self.spread * stats.norm.isf(self.missing))
        baseline_s = np.exp(self.spread * (self.shared**0.5 * common + (1 - self.shared) ** 0.5 * own))
        candidate_s = np.exp(self.spread * (self.shared**0.5 * common + (1 - self.shared) ** 0.5 * others))
        candidate_s = np.minimum(candidate_s / self.speedup, tau_s)
        if self.failing:
            candidate_s = np.where(generator.random(candidate_s.shape) < self.failing, tau_s, candidate_s)
        return np.minimum(baseline_s, tau_s), candidate_s

    @functools.cached_property
    def ratio(self) -> float:
        """The ratio of the means, from enough seeds that its own error is a thousandth."""
        baseline_s, candidate_s = self.sweeps(1, 1_000_000, seed=99)
        return float(baseline_s.mean() / candidate_s.mean())

    def covered(self, num_sweeps: int, num_seeds: int) -> float:
        """The share of sweeps whose interval holds the true ratio."""
        low, high = ratio_interval(*self.sweeps(num_sweeps, num_seeds, seed=num_seeds))
        return float(((low <= self.ratio) & (self.ratio <= high)).mean())

    def bootstrapped(self, num_sweeps: int, num_seeds: int) -> float:
        """The same of the bootstrap interval."""
        generator = np.random.default_rng(0)
        sweeps = zip(*self.sweeps(num_sweeps, num_seeds, seed=num_seeds), strict=True)
        intervals = np.array([bootstrap_interval(*sweep, generator=generator) for sweep in sweeps])
        return float(((intervals[:, 0] <= self.ratio) & (self.ratio <= intervals[:, 1])).mean())


MISSING_HEADER = ["what", "3 seeds", "5", "10", "20"]
_SEEDS = (3, 5, 10, 20)


def missing_rows(num_sweeps: int) -> Iterator[list[str]]:
    """How often the interval over seeds, and the bootstrap's, hold the true ratio."""
    rows = {f"{share:.0%} of the reference's seeds miss": Missing(missing=share) for share in (0.0, 0.1, 0.3, 0.5, 0.8)}
    rows |= {
        f"1 seed of 10 of the setting fails, spread {spread:.0%}": Missing(spread, failing=0.1) for spread in (0.1, 0.3)
    }
    for name, truth in rows.items():
        yield [name, *(f"{truth.covered(num_sweeps, num_seeds):.1%}" for num_seeds in _SEEDS)]
    counts = {each: num_sweeps if each <= MAX_ENUMERATED_PAIRS else _NUM_BOOTSTRAPPED for each in _SEEDS}
    yield ["bootstrap, no misses", *(f"{Missing().bootstrapped(count, each):.0%}" for each, count in counts.items())]
