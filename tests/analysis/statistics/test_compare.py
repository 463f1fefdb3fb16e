"""Golden tests G7 and G8, and the properties of a comparison paired by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics.censoring import Bounds, bounds
from analysis.statistics.compare import compare, geometric_mean, mark, p_faster
from analysis.statistics.interval import LEVEL, ratio_interval
from kdas.records import Status

TAU_S = 1000.0
times = st.floats(0.5, 900)
pairs = st.lists(st.tuples(times, times), min_size=1, max_size=5)


def seeded(times_s: Sequence[float], tau_s: float = TAU_S) -> dict[int, Bounds]:
    """Times by seed 0, 1, ...; inf is a miss at the budget."""
    status = {True: Status.REACHED, False: Status.BUDGET}
    return {
        seed: bounds(status[math.isfinite(time_s)], time_s, min(time_s, tau_s), tau_s)
        for seed, time_s in enumerate(times_s)
    }


def test_g7_five_pairs_that_all_reached(generator: np.random.Generator) -> None:
    found = compare(seeded([100, 120, 110, 130, 90]), seeded([50, 80, 55, 100, 60]), generator=generator)
    assert found.num_pairs == 5 and found.mark == ""
    assert found.ratio == pytest.approx(1.594203, abs=1e-6)
    assert (found.bootstrap_low, found.bootstrap_high) == pytest.approx((1.4, 1.888889), abs=1e-6)
    assert found.geometric_ratio == pytest.approx(1.635450, abs=1e-6)
    assert (found.geometric_low, found.geometric_high) == pytest.approx((1.28733, 2.07771), abs=1e-5)
    # A paired t-test of the differences, which the interval inverts.
    other = stats.ttest_rel([100, 120, 110, 130, 90], [50, 80, 55, 100, 60])
    assert found.p_value == pytest.approx(other.pvalue) and found.p_faster == 1


def test_g8_misses_on_both_sides(generator: np.random.Generator) -> None:
    baseline, candidate = seeded([100, math.inf, 90], 120), seeded([50, 60, math.inf], 120)
    found = compare(baseline, candidate, generator=generator)
    assert found.ratio == pytest.approx(1.347826, abs=1e-6)
    assert found.p_faster == pytest.approx(2 / 3)
    assert found.mark == "~" and math.isnan(found.geometric_ratio)
    each = [compare({s: baseline[s]}, {s: candidate[s]}, generator=generator) for s in baseline]
    assert [(one.mark, one.ratio) for one in each] == [("", 2), (">=", 2), ("<=", 0.75)]


def test_a_stopped_candidate_is_charged_the_full_budget(generator: np.random.Generator) -> None:
    stopped = {0: bounds(Status.CAPPED, math.inf, 10, 100)}
    found = compare(seeded([50], 100), stopped, generator=generator)
    assert (found.ratio, found.ratio_at_most, found.mark, found.p_faster) == (0.5, 5.0, "to", 0)


def test_a_doubt_about_who_is_faster_leaves_no_small_p(generator: np.random.Generator) -> None:
    baseline = seeded([50] * 8, 100)
    stopped = dict.fromkeys(baseline, bounds(Status.CAPPED, math.inf, 40, 100))
    found = compare(baseline, stopped, generator=generator)
    assert (found.ratio, found.ratio_at_most, found.p_value) == (0.5, 1.25, 1.0)
    slower = dict.fromkeys(baseline, bounds(Status.CAPPED, math.inf, 60, 100))
    assert compare(baseline, slower, generator=generator).p_value < 1e-9


def test_a_candidate_that_crashed_at_once_may_be_any_amount_faster(generator: np.random.Generator) -> None:
    crashed = dict.fromkeys(range(3), bounds(Status.CRASHED, math.inf, 0, 100))
    found = compare(seeded([50] * 3, 100), crashed, generator=generator)
    assert (found.ratio, found.ratio_low, found.ratio_at_most, found.ratio_high) == (0.5, 0.5, math.inf, math.inf)


def test_a_crashed_baseline_is_charged_only_what_it_ran(generator: np.random.Generator) -> None:
    crashed = {0: bounds(Status.CRASHED, math.inf, 40, 100)}
    found = compare(crashed, seeded([20], 100), generator=generator)
    assert (found.ratio, found.ratio_at_most, found.mark) == (2.0, 5.0, "to")


def test_two_settings_that_never_reached_have_no_ratio(generator: np.random.Generator) -> None:
    found = compare(seeded([math.inf] * 3), seeded([math.inf] * 3), generator=generator)
    assert math.isnan(found.ratio) and math.isnan(found.ratio_low)
    assert (found.p_faster, found.p_value) == (0.5, 1)


def test_one_pair_has_a_ratio_and_no_interval(generator: np.random.Generator) -> None:
    found = compare(seeded([100]), seeded([50]), generator=generator)
    assert (found.num_pairs, found.ratio, found.p_value) == (1, 2, 1)
    assert all(math.isnan(limit) for limit in (found.ratio_low, found.ratio_high, found.geometric_low))


def test_equal_ratios_are_as_wide_as_the_grid(generator: np.random.Generator) -> None:
    def on_grid(time_s: float) -> dict[int, Bounds]:
        return {seed: bounds(Status.REACHED, time_s, time_s, TAU_S, gap_s=10) for seed in range(3)}

    found = compare(on_grid(100), on_grid(50), generator=generator)
    # By hand: 90 / 50 if the baseline crossed right after its last miss, 100 / 40 if the candidate did; and the spread
    # of times that are even over a gap of 10, with two degrees of freedom.
    least = 4.302653 * math.hypot(0.1, 0.2) / 6
    low, high = (math.exp(math.hypot(math.log(end), least)) for end in (100 / 90, 50 / 40))
    assert (found.ratio_low, found.ratio_high) == pytest.approx((2 / low, 2 * high))
    assert 0 < found.p_value < 0.05
    assert (found.geometric_low, found.geometric_high) == pytest.approx((2, 2))


def test_a_hit_at_the_first_evaluation_opens_its_side() -> None:
    first = {seed: bounds(Status.REACHED, 50, 50, TAU_S, gap_s=50) for seed in range(3)}
    later = {seed: bounds(Status.REACHED, 100 + seed, 100, TAU_S, gap_s=1) for seed in range(3)}
    found = compare(later, first)
    assert found.ratio_high == math.inf and 0.9 < found.ratio_low < found.ratio == pytest.approx(2.02)
    back = compare(first, later)
    assert back.ratio_low == 0 and back.ratio_high == pytest.approx(1 / found.ratio_low)
    # 1 lies on the open side: whatever the seeds say, the first evaluation came too late to tell.
    assert (
        compare(first, {seed: bounds(Status.REACHED, 40 + seed, 40, TAU_S, gap_s=1) for seed in range(3)}).p_value == 1
    )


def test_prices_widen_the_interval_and_say_by_how_much() -> None:
    def with_rounds(times_s: Sequence[float], rounds: tuple[float, ...]) -> dict[int, Bounds]:
        return {
            seed: Bounds(time_s, time_s, reached=True, censored=False, price_rounds=rounds)
            for seed, time_s in enumerate(times_s)
        }

    baseline_s, candidate_s = [100.0, 101, 99, 100, 100], [80.0, 80, 81, 79, 80]
    without = compare(seeded(baseline_s), seeded(candidate_s))
    found = compare(with_rounds(baseline_s, (1.0,) * 5), with_rounds(candidate_s, (0.9, 0.95, 1.0, 1.05, 1.1)))
    assert math.isnan(without.price_error)
    error = np.sqrt((np.log([0.9, 0.95, 1.0, 1.05, 1.1]) ** 2).sum() / 20)
    assert found.price_error == pytest.approx(np.expm1(stats.t.isf(0.025, 4) * error))
    assert found.ratio_low < without.ratio_low < found.ratio < without.ratio_high < found.ratio_high
    # The part over seeds is that of the same times without them.
    assert (found.seeds_low, found.seeds_high) == pytest.approx((without.ratio_low, without.ratio_high))
    # Rounds that move both sides alike are another unit of cost.
    alike = compare(*(with_rounds(side, (0.9, 1.0, 1.1)) for side in (baseline_s, candidate_s)))
    assert (alike.ratio_low, alike.ratio_high) == pytest.approx((without.ratio_low, without.ratio_high))
    one_side = compare(with_rounds(baseline_s, (1.0, 1.1)), seeded(candidate_s))
    assert math.isnan(one_side.price_error)


@given(pairs, st.sampled_from([LEVEL, LEVEL / 3, 0.01]), st.floats(0, 20))
def test_p_is_below_its_level_exactly_where_the_interval_excludes_one(
    paired: list[tuple[float, float]], level: float, gap_s: float
) -> None:
    one, other = (
        {seed: Bounds(time_s, time_s, True, False, min(gap_s, time_s)) for seed, time_s in enumerate(side)}
        for side in zip(*paired, strict=True)
    )
    found = compare(one, other, level=level)
    if found.num_pairs > 1 and abs(found.p_value - LEVEL) > 1e-6:
        assert (found.p_value < LEVEL) == (not found.ratio_low <= 1 <= found.ratio_high)


def test_only_common_seeds_are_paired(generator: np.random.Generator) -> None:
    baseline, candidate = seeded([100, 100, 7]), seeded([50, 50])
    assert compare(baseline, candidate, generator=generator).num_pairs == 2
    assert compare(baseline, candidate, generator=generator).ratio == 2


def test_no_common_seed_gives_nothing(generator: np.random.Generator) -> None:
    found = compare(seeded([100]), {}, generator=generator)
    assert found.num_pairs == 0 and math.isnan(found.ratio) and math.isnan(found.p_value)


def test_the_same_generator_gives_the_same_interval_beyond_enumeration() -> None:
    baseline, candidate = seeded([100 + 3 * i for i in range(12)]), seeded([60 + (7 * i) % 13 for i in range(12)])
    first, second = (compare(baseline, candidate, generator=np.random.default_rng(3)) for _ in range(2))
    assert first == second
    assert first.ratio_low < first.ratio < first.ratio_high


def test_the_t_interval_agrees_with_scipy() -> None:
    baseline_s, candidate_s = np.array([10.0, 12, 11, 15]), np.array([7.0, 9, 10, 8])
    interval = stats.ttest_1samp(np.log(baseline_s / candidate_s), 0).confidence_interval(0.95)
    assert geometric_mean(baseline_s, candidate_s)[1:] == pytest.approx(np.exp([interval.low, interval.high]))


@pytest.mark.parametrize(
    ("baseline_s", "candidate_s", "expected"),
    [([1], [1], ""), ([math.inf], [1], ">="), ([1], [math.inf], "<="), ([math.inf], [math.inf], "~")],
)
def test_the_mark_says_which_way_misses_push(baseline_s: list[float], candidate_s: list[float], expected: str) -> None:
    assert mark(list(seeded(baseline_s).values()), list(seeded(candidate_s).values())) == expected


@given(pairs)
def test_swapping_the_two_inverts_the_ratio_and_keeps_p(paired: list[tuple[float, float]]) -> None:
    one, other = (seeded(side) for side in zip(*paired, strict=True))
    forth = compare(one, other, generator=np.random.default_rng(0))
    back = compare(other, one, generator=np.random.default_rng(0))
    assert forth.ratio * back.ratio == pytest.approx(1)
    assert forth.geometric_ratio * back.geometric_ratio == pytest.approx(1)
    assert forth.p_faster + back.p_faster == pytest.approx(1)
    assert forth.p_value == pytest.approx(back.p_value)


@given(pairs, st.sampled_from([0.125, 0.5, 4.0, 64.0]))
def test_another_unit_of_cost_changes_nothing(paired: list[tuple[float, float]], unit: float) -> None:
    scaled = [tuple(time_s * unit for time_s in pair) for pair in paired]
    first, second = (
        compare(*(seeded(side, 1e6) for side in zip(*chosen, strict=True)), generator=np.random.default_rng(0))
        for chosen in (paired, scaled)
    )
    assert second.ratio == pytest.approx(first.ratio)
    assert (second.p_faster, second.p_value) == pytest.approx((first.p_faster, first.p_value))


@given(pairs)
def test_ratio_and_bootstrap_lie_among_the_pairs_ratios(paired: list[tuple[float, float]]) -> None:
    found = compare(*(seeded(side) for side in zip(*paired, strict=True)), generator=np.random.default_rng(0))
    ratios = [baseline_s / candidate_s for baseline_s, candidate_s in paired]
    low, high = min(ratios) * (1 - 1e-9), max(ratios) * (1 + 1e-9)
    assert low <= found.ratio <= high
    if found.num_pairs > 1:
        assert low <= found.bootstrap_low <= found.bootstrap_high <= high
        assert found.ratio_low <= found.ratio * (1 + 1e-9) and found.ratio <= found.ratio_high * (1 + 1e-9)


@given(pairs, st.lists(st.floats(0, 1), min_size=5, max_size=5))
def test_the_two_ratios_enclose_the_one_of_the_whole_curves(
    paired: list[tuple[float, float]], seen: list[float]
) -> None:
    whole, stopped = {}, {}
    for (seed, (_, time_s)), share in zip(enumerate(paired), seen, strict=False):
        whole[seed] = bounds(Status.REACHED, time_s, time_s, TAU_S)
        stopped[seed] = bounds(Status.CAPPED, math.inf, share * time_s, TAU_S)
    baseline = seeded([time_s for time_s, _ in paired])
    truth = compare(baseline, whole, generator=np.random.default_rng(0)).ratio
    found = compare(baseline, stopped, generator=np.random.default_rng(0))
    assert found.ratio <= truth * (1 + 1e-9) and truth <= found.ratio_at_most * (1 + 1e-9)


@given(pairs)
def test_swapping_the_two_inverts_the_interval(paired: list[tuple[float, float]]) -> None:
    baseline_s, candidate_s = (np.array(side) for side in zip(*paired, strict=True))
    forth, back = ratio_interval(baseline_s, candidate_s), ratio_interval(candidate_s, baseline_s)
    if len(paired) > 1:
        inverted = [math.inf if not end else 1 / end for end in reversed(back)]
        assert forth == pytest.approx(inverted, rel=1e-6)


def test_ties_count_one_half() -> None:
    assert p_faster(np.array([1.0, 2.0]), np.array([1.0, 1.0])) == 0.75
