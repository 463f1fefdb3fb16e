"""`python -m benchmarks.claims`: simulated sweeps whose truth is known, and what our answer would have said of them.

It prints the tables of docs/measuring.md. The tests run the same simulations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.findings.cautions import ERRATIC
from analysis.statistics.interval import Doubt, Floats, grid_doubt, joint_interval, price_doubt
from analysis.statistics.verdict import Verdict, decide, detectable_ratio, level_of_slower, simultaneous_level
from benchmarks.misses import MISSING_HEADER, missing_rows

NUM_SWEEPS = 20_000
NUM_ROUNDS = 5


@dataclass(frozen=True)
class Truth:
    """Lognormal times of settings, the first `num_plain` of which are plain.

    `speedups` [m]: how many times as fast as a plain setting of 1 each is; `spread`: deviation of the logarithm;
    `shared`: the part of its variance that the settings of one seed have in common; `grid`: the distance of
    evaluations, as a part of the spread; `price_error`: deviation, by errors of prices, of the
    logarithm of a ratio; `missing`: the share of seeds of a plain setting that miss the target within the budget.
    """

    speedups: tuple[float, ...]
    num_plain: int = 1
    spread: float = 0.3
    shared: float = 0.0
    grid: float = 0.0
    price_error: float = 0.0
    missing: float = 0.0

    @property
    def is_plain(self) -> list[bool]:
        return [place < self.num_plain for place in range(len(self.speedups))]


@dataclass(frozen=True)
class Sweeps:
    """What was recorded: `times_s` [S, m, n], the gap before each hit, and `log_prices` [S, m, R] of each round."""

    times_s: Floats
    gaps_s: Floats
    log_prices: Floats

    def interval(self, baseline: int, candidate: int, level: float) -> tuple[Floats, Floats]:
        """The quoted interval of one comparison, ends [S] each."""
        first, second = self.times_s[:, baseline], self.times_s[:, candidate]
        low, high = (
            grid_doubt(self.gaps_s[:, place].sum(axis=-1), self.times_s[:, place].sum(axis=-1))
            for place in (baseline, candidate)
        )
        error = price_doubt(self.log_prices[:, baseline] - self.log_prices[:, candidate])
        return joint_interval(first, second, level, Doubt(low, high, error, self.log_prices.shape[-1]))

    def beats(self, level: float) -> NDArray[np.bool_]:
        """Whether a setting is faster beyond doubt than another [S, m, m]."""
        num_settings = self.times_s.shape[1]
        found = np.zeros((len(self.times_s), num_settings, num_settings), dtype=bool)
        for one in range(num_settings):
            for other in range(one):
                low, high = self.interval(other, one, level)
                found[:, one, other], found[:, other, one] = low > 1, high < 1
        return found


def simulated(truth: Truth, num_sweeps: int, num_seeds: int, seed: int = 0) -> Sweeps:
    """Sweeps of settings with these true times."""
    generator = np.random.default_rng([seed, num_seeds, len(truth.speedups)])
    shape = (num_sweeps, len(truth.speedups), num_seeds)
    common, own = generator.standard_normal((num_sweeps, 1, num_seeds)), generator.standard_normal(shape)
    times_s = np.exp(truth.spread * (truth.shared**0.5 * common + (1 - truth.shared) ** 0.5 * own))
    times_s = times_s / np.array(truth.speedups)[:, None]
    gaps_s = np.zeros_like(times_s)
    if truth.grid:
        step_s = truth.grid * truth.spread
        times_s = np.ceil(times_s / step_s) * step_s
        gaps_s = np.full_like(times_s, step_s)
    budget_s = math.exp(truth.spread * stats.norm.isf(truth.missing)) if truth.missing else math.inf
    gaps_s = np.where(times_s <= budget_s, gaps_s, 0.0)
    times_s = np.minimum(times_s, budget_s)
    # Each round measures every price; a trial is charged their mean.
    rounds = generator.standard_normal((num_sweeps, len(truth.speedups), NUM_ROUNDS))
    log_prices = truth.price_error * (NUM_ROUNDS / 2) ** 0.5 * rounds
    charged = log_prices.mean(axis=-1, keepdims=True)
    return Sweeps(times_s * np.exp(charged), gaps_s * np.exp(charged), log_prices - charged)


def verdicts(truth: Truth, num_sweeps: int, num_seeds: int, seed: int = 0) -> Iterator[Verdict]:
    """What may be claimed of each simulated sweep."""
    sweeps = simulated(truth, num_sweeps, num_seeds, seed)
    beats = sweeps.beats(simultaneous_level(len(truth.speedups)))
    for means, faster in zip(sweeps.times_s.mean(axis=-1).tolist(), beats, strict=True):
        yield decide(means, truth.is_plain, functools.partial(_looked_up, faster))


def _looked_up(faster: NDArray[np.bool_], one: int, other: int) -> bool:
    return bool(faster[one, other])


def covered(truth: Truth, num_sweeps: int, num_seeds: int, seed: int = 0) -> float:
    """The share of sweeps in which the intervals of all settings against the first hold the true ratios together."""
    sweeps = simulated(truth, num_sweeps, num_seeds, seed)
    level = simultaneous_level(len(truth.speedups))
    holds = np.ones(num_sweeps, dtype=bool)
    for place, speedup in enumerate(truth.speedups[1:], start=1):
        low, high = sweeps.interval(0, place, level)
        ratio = speedup / truth.speedups[0]
        holds &= (low <= ratio) & (ratio <= high)
    return float(holds.mean())


def covered_beside_the_fastest(truth: Truth, num_sweeps: int, num_seeds: int, seed: int = 0) -> float:
    """As `covered`, with the plain setting that happens to be fastest as the reference of all others."""
    sweeps = simulated(truth, num_sweeps, num_seeds, seed)
    level, speedups = simultaneous_level(len(truth.speedups)), truth.speedups
    chosen = sweeps.times_s[:, : truth.num_plain].mean(axis=-1).argmin(axis=1)
    holds = np.ones(num_sweeps, dtype=bool)
    for reference in range(truth.num_plain):
        for place in set(range(len(speedups))) - {reference}:
            low, high = sweeps.interval(reference, place, level)
            ratio = speedups[place] / speedups[reference]
            holds &= ((low <= ratio) & (ratio <= high)) | (chosen != reference)
    return float(holds.mean())


def falsely_slower(truth: Truth, num_sweeps: int, num_seeds: int, seed: int = 0) -> NDArray[np.bool_]:
    """Whether a setting is called slower [S] than the plain setting that came out fastest, though it is not."""
    sweeps = simulated(truth, num_sweeps, num_seeds, seed)
    level = level_of_slower(simultaneous_level(len(truth.speedups)), truth.num_plain)
    chosen = sweeps.times_s[:, : truth.num_plain].mean(axis=-1).argmin(axis=1)
    is_false = np.zeros(num_sweeps, dtype=bool)
    for reference in range(truth.num_plain):
        for place in range(truth.num_plain, len(truth.speedups)):
            if truth.speedups[place] >= truth.speedups[reference]:
                is_false |= (sweeps.interval(reference, place, level)[1] < 1) & (chosen == reference)
    return is_false


def _slower(num_sweeps: int) -> Iterator[list[str]]:
    for num_plain in (1, 3, 5):
        truth = Truth((1.0,) * 8, num_plain)
        rates = (falsely_slower(truth, num_sweeps, num_seeds).mean() for num_seeds in (3, 5, 10))
        yield [str(num_plain), *(f"{rate:.1%}" for rate in rates)]


def _references(num_sweeps: int) -> Iterator[list[str]]:
    for num_plain in (1, 3, 5):
        truth = Truth((1.0,) * 8, num_plain, spread=0.2)
        rates = (covered_beside_the_fastest(truth, num_sweeps, num_seeds) for num_seeds in (3, 5, 10))
        yield [str(num_plain), *(f"{rate:.1%}" for rate in rates)]


def _false_claims(num_sweeps: int) -> Iterator[list[str]]:
    for num_comparisons in (1, 5, 9):
        for num_seeds in (3, 5, 10):
            found = [one.winner for one in verdicts(Truth((1.0,) * (num_comparisons + 1)), num_sweeps, num_seeds)]
            claimed, faster = (sum(map(test, found)) / num_sweeps for test in (_is_any, bool))
            yield [str(num_comparisons), str(num_seeds), f"{claimed:.1%}", f"{faster:.1%}"]


def _is_any(winner: int | None) -> bool:
    return winner is not None


def _hidden_ties(num_sweeps: int) -> Iterator[list[str]]:
    for num_seeds in (3, 5, 10, 20):
        found = list(verdicts(Truth((1.0, 1.28, 1.28, 1.28, 1.28), spread=0.15), num_sweeps, num_seeds))
        hidden, faster = sum(one.is_fastest for one in found), sum(one.winner is not None for one in found)
        yield [str(num_seeds), f"{hidden / num_sweeps:.2%}", f"{faster / num_sweeps:.0%}"]


def _coverage(num_sweeps: int) -> Iterator[list[str]]:
    for spread in (0.1, 0.2, 0.3):
        for price_error in (0.0, 0.02, 0.05):
            truth = Truth((1.0, 1.28), spread=spread, grid=0.2, price_error=price_error)
            rates = [f"{covered(truth, num_sweeps, num_seeds):.1%}" for num_seeds in (3, 5, 10)]
            yield [f"{spread:.0%}", f"{price_error:.0%}", *rates]


def _coarse_grids(num_sweeps: int) -> Iterator[list[str]]:
    for grid in (0.5, 1.0, 2.0, 4.0):
        truth = Truth((1.0, 1.28), spread=0.1, grid=grid)
        yield [f"{grid:g}", *(f"{covered(truth, num_sweeps, num_seeds):.1%}" for num_seeds in (3, 5, 10))]


def falsely_faster(
    spread: float, plain_spread: float, num_sweeps: int, num_seeds: int, num_settings: int = 2
) -> tuple[float, float]:
    """At most this share of sweeps calls a setting faster whose mean time equals that of plain distillation.

    Its times spread differently. Of several such settings, the shares are added.

    Returns: the share, and the part of it in which the report warns that the setting is erratic.
    """
    generator = np.random.default_rng(num_seeds)
    plain_s, times_s = (
        np.exp(each * generator.standard_normal((num_sweeps, num_seeds)) - each**2 / 2)
        for each in (plain_spread, spread)
    )
    low, _ = joint_interval(plain_s, times_s, simultaneous_level(num_settings))
    plain, own = (each[low > 1].std(axis=-1, ddof=1) / each[low > 1].mean(axis=-1) for each in (plain_s, times_s))
    return float((low > 1).mean()) * (num_settings - 1), float((own > ERRATIC * plain).mean())


def _erratic(num_sweeps: int) -> Iterator[list[str]]:
    for spread in (0.3, 0.5):
        for num_settings in (2, 10):
            rates = [falsely_faster(spread, 0.1, num_sweeps, num_seeds, num_settings) for num_seeds in (3, 5, 10)]
            yield [f"{spread:.0%}", str(num_settings - 1), *(f"{rate:.1%} ({warned:.0%})" for rate, warned in rates)]


def _detectable(_: int) -> Iterator[list[str]]:
    for variation in (0.1, 0.15, 0.2):
        # Comparisons, and how many of them are with plain settings that are equally fast.
        for num_comparisons, num_plain in ((1, 1), (3, 1), (5, 3)):
            level = simultaneous_level(num_comparisons + 1)
            ratios = (
                detectable_ratio(variation, 0.0, num_seeds, level, num_others=num_plain) for num_seeds in (3, 5, 10, 20)
            )
            shown = ("none" if math.isinf(ratio) else f"{ratio:.2f}x" for ratio in ratios)
            yield [f"{variation:.0%}", str(num_comparisons), str(num_plain), *shown]


_TABLES: dict[str, tuple[list[str], Callable[[int], Iterator[list[str]]]]] = {
    "False claims where nothing differs": (
        ["comparisons", "seeds", "a difference", "faster than plain"],
        _false_claims,
    ),
    "rs2 and three finalists equal at 1.28x": (["seeds", "tie hidden", "faster than plain"], _hidden_ties),
    "Coverage, grid of 20% of the spread": (["spread", "price error", "3 seeds", "5", "10"], _coverage),
    "Coverage, spread 10%": (["grid, in spreads", "3 seeds", "5", "10"], _coarse_grids),
    "All rows of 8 settings together, beside the fastest plain one": (["plain", "3 seeds", "5", "10"], _references),
    "Called slower than the fastest plain one of 8 settings": (["plain", "3 seeds", "5", "10"], _slower),
    "Falsely faster (warned of), spread of plain distillation 10%": (
        ["spread", "comparisons", "3 seeds", "5", "10"],
        _erratic,
    ),
    "Ratio shown in 80% of sweeps, computed": (
        ["spread", "comparisons", "plain settings", "3 seeds", "5", "10", "20"],
        _detectable,
    ),
    "Coverage over seeds, spread 30%, half of it shared, true ratio 1.3": (MISSING_HEADER, missing_rows),
}


if __name__ == "__main__":
    print(f"{NUM_SWEEPS:,} simulated sweeps a figure")
    for title, (header, rows) in _TABLES.items():
        print(f"\n{title}\n\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for row in rows(NUM_SWEEPS):
            print(f"| {' | '.join(row)} |")
