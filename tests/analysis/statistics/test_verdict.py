"""What the sentence may claim, in simulated sweeps whose truth is known, and the rules that it follows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from analysis.statistics.censoring import Bounds
from analysis.statistics.compare import compare
from analysis.statistics.interval import LEVEL, ratio_interval
from analysis.statistics.verdict import (
    Verdict,
    decide,
    detectable_ratio,
    level_of_slower,
    simultaneous_level,
    slower_than,
    spread,
)
from benchmarks.claims import Truth, falsely_faster, falsely_slower, simulated, verdicts

NUM_SWEEPS = 4000


def at_most(rate: float) -> float:
    """What 1 in 1,000 simulations of this many sweeps exceeds, if errors have exactly this rate."""
    return float(stats.binom.isf(0.001, NUM_SWEEPS, rate)) / NUM_SWEEPS


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("num_comparisons", [1, 5, 9])
def test_where_nothing_differs_a_difference_is_rarely_claimed(num_comparisons: int, num_seeds: int) -> None:
    truth = Truth((1.0,) * (num_comparisons + 1))
    found = list(verdicts(truth, NUM_SWEEPS, num_seeds))
    claims = [one.winner for one in found if one.winner is not None]
    assert len(claims) / NUM_SWEEPS <= LEVEL
    assert sum(winner > 0 for winner in claims) / NUM_SWEEPS <= at_most(LEVEL / 2)


@pytest.mark.parametrize("num_seeds", [2, 3])
@pytest.mark.parametrize("missing", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("grid", [0.2, 1.0, 3.0])
def test_few_seeds_on_a_coarse_grid_that_show_no_spread_claim_nothing(
    grid: float, missing: float, num_seeds: int
) -> None:
    found = list(verdicts(Truth((1.0,) * 4, spread=0.2, grid=grid, missing=missing), NUM_SWEEPS, num_seeds))
    assert sum(one.winner is not None for one in found) / NUM_SWEEPS <= at_most(LEVEL / 2)


def test_a_choice_among_plain_settings_claims_no_more() -> None:
    found = list(verdicts(Truth((1.0,) * 8, num_plain=3), NUM_SWEEPS, 10))
    assert sum(one.winner is not None for one in found) / NUM_SWEEPS <= LEVEL / 2


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize(
    "truth",
    [
        Truth((1.0,) * 2),
        Truth((1.0,) * 8),
        Truth((1.0,) * 8, num_plain=3),
        Truth((1.0,) * 10, num_plain=5),
        Truth((1.0, 0.9, 0.7, 1.0, 1.0, 0.5), num_plain=3, spread=0.15, grid=0.5, price_error=0.04),
        Truth((1.0,) * 8, num_plain=3, missing=0.3),
    ],
)
def test_a_setting_is_rarely_called_slower_than_the_fastest_plain_one_by_chance(truth: Truth, num_seeds: int) -> None:
    is_false = falsely_slower(truth, NUM_SWEEPS, num_seeds)
    assert is_false.mean() <= at_most(LEVEL / 2)
    # Together with the winner, the answer keeps its level.
    others = max(truth.speedups[: truth.num_plain])
    wrong = [
        one.winner is not None and (one.winner < truth.num_plain or truth.speedups[one.winner] <= others)
        for one in verdicts(truth, NUM_SWEEPS, num_seeds)
    ]
    assert (is_false | np.array(wrong)).mean() <= at_most(LEVEL)


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_an_erratic_setting_is_called_faster_too_often_as_the_documentation_says(num_seeds: int) -> None:
    assert 0.035 <= falsely_faster(0.3, 0.1, 40_000, num_seeds)[0] <= 0.05
    assert falsely_faster(0.3, 0.1, 40_000, num_seeds, num_settings=10)[0] <= 0.08
    assert 0.055 <= falsely_faster(0.5, 0.1, 40_000, num_seeds, num_settings=10)[0] <= 0.17


@pytest.mark.parametrize("num_seeds", [3, 5, 10, 20])
def test_equals_that_beat_plain_distillation_are_not_ranked(num_seeds: int) -> None:
    # rs2 and three finalists, all truly 1.28 times as fast as plain distillation.
    found = list(verdicts(Truth((1.0, 1.28, 1.28, 1.28, 1.28), spread=0.15), NUM_SWEEPS, num_seeds))
    assert sum(one.is_fastest for one in found) / NUM_SWEEPS <= LEVEL
    assert all(one.rival is not None for one in found if one.winner is not None and not one.is_fastest)
    if num_seeds == 20:
        assert sum(one.winner is not None for one in found) / NUM_SWEEPS > 0.99


def test_the_simulations_compute_what_the_report_quotes() -> None:
    truth = Truth((1.0, 1.28, 0.9), grid=0.5, price_error=0.04)
    sweeps, level = simulated(truth, 4, 5), simultaneous_level(3)
    for place in (1, 2):
        low, high = sweeps.interval(0, place, level)
        for sweep in range(4):
            sides = [
                {
                    seed: Bounds(time_s, time_s, True, False, gap_s, tuple(np.exp(sweeps.log_prices[sweep, side])))
                    for seed, (time_s, gap_s) in enumerate(
                        zip(sweeps.times_s[sweep, side], sweeps.gaps_s[sweep, side], strict=True)
                    )
                }
                for side in (0, place)
            ]
            found = compare(*sides, level=level)
            assert (found.ratio_low, found.ratio_high) == pytest.approx((low[sweep], high[sweep]))


@pytest.mark.parametrize("num_seeds", [5, 10])
@pytest.mark.parametrize(("num_settings", "num_plain"), [(2, 1), (4, 1), (6, 3)])
def test_the_ratio_that_is_said_to_show_in_four_of_five_sweeps_does(
    num_settings: int, num_plain: int, num_seeds: int
) -> None:
    level = simultaneous_level(num_settings)
    ratio = detectable_ratio(0.15, 0.0, num_seeds, level, num_others=num_plain)
    generator = np.random.default_rng(1)
    candidate_s, *plain_s = 1 + 0.15 * generator.standard_normal((1 + num_plain, NUM_SWEEPS, num_seeds))
    # It is claimed only if it beats every plain setting.
    is_claimed = np.all([ratio_interval(each, candidate_s / ratio, level)[0] > 1 for each in plain_s], axis=0)
    assert is_claimed.mean() == pytest.approx(0.8, abs=0.025)


def test_too_few_seeds_show_no_ratio_at_all_and_no_spread_is_not_known() -> None:
    assert detectable_ratio(0.3, 0.0, 2, LEVEL) == math.inf
    assert math.isnan(detectable_ratio(math.nan, math.nan, 5, LEVEL))
    # Without any spread, only grid and prices hide a difference.
    assert detectable_ratio(0.0, 0.0, 3, LEVEL, other=math.log(1.1)) == pytest.approx(1.1)


def test_the_spread_is_pooled_over_settings_of_different_speed() -> None:
    generator = np.random.default_rng(2)
    common, own = generator.standard_normal((1, 20_000)), generator.standard_normal((4, 20_000))
    times_s = (10 + 0.5**0.5 * (common + own)) * np.array([[1.0], [2.0], [5.0], [0.1]])
    variation, correlation = spread(times_s)
    assert (variation, correlation) == pytest.approx((0.1, 0.5), rel=0.05)
    assert all(math.isnan(each) for each in spread(times_s[:1]))


def judged(means: list[float], is_plain: list[bool], beats: set[tuple[int, int]]) -> Verdict:
    return decide(means, is_plain, lambda one, other: (one, other) in beats)


def test_the_winner_must_beat_every_plain_setting_and_the_fastest_everything() -> None:
    means, is_plain = [3.0, 2.5, 2.0, 2.1], [True, True, False, False]
    assert judged(means, is_plain, {(2, 0)}) == Verdict(1, None, False, None, 2)
    assert judged(means, is_plain, {(2, 0), (2, 1)}) == Verdict(1, 2, False, 3, 2)
    assert judged(means, is_plain, {(2, 0), (2, 1), (2, 3)}) == Verdict(1, 2, True, None, 2)
    # The second is known to be faster than plain distillation, the first is not: they are not ranked.
    assert judged(means, is_plain, {(3, 0), (3, 1)}) == Verdict(1, 3, False, 2, 2)


def test_a_plain_setting_is_the_fastest_only_if_it_beats_everything() -> None:
    means, is_plain = [1.0, 2.5, 2.0], [True, True, False]
    assert judged(means, is_plain, {(0, 1), (0, 2)}) == Verdict(0, 0, True, None, 2)
    assert judged(means, is_plain, {(0, 2)}) == Verdict(0, None, False, None, 2)


def test_slower_settings_are_those_that_the_reference_beats_and_that_are_not_plain() -> None:
    is_plain, pairs = [True, True, False, False], {(0, 1), (0, 3), (1, 2)}
    assert slower_than(0, is_plain, lambda one, other: (one, other) in pairs) == (3,)
    assert slower_than(None, is_plain, lambda *_: True) == ()
    assert level_of_slower(0.01, 1) == 0.01 and level_of_slower(0.03, 3) == pytest.approx(0.01)


def test_without_a_plain_setting_only_the_fastest_of_all_is_claimed() -> None:
    assert judged([1.0, 2.0], [False, False], {(0, 1)}) == Verdict(None, 0, True, None, 0)
    assert judged([1.0, 2.0], [False, False], set()) == Verdict(None, None, False, None, 0)
    assert judged([], [], set()) == Verdict(None, None, False, None, None)
    assert judged([1.0], [True], set()) == Verdict(0, None, False, None, None)
