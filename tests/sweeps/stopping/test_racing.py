"""Racing by hand, and in simulated sweeps whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from kdas.records import Status
from sweeps.stopping import StoppingContext
from sweeps.stopping.capping import Capping
from sweeps.stopping.racing import LEAST_CHANCE, Racing

TARGET, BUDGET_S, INTERVAL_S = 0.9, 10.0, 0.25
Times = NDArray[np.float64]


def racing(keep: int = 1, interval_s: float = 1e-6) -> Racing:
    return Racing(StoppingContext(TARGET, BUDGET_S, interval_s, keep))


def known(rule: Capping | Racing, config_id: str, *times: float) -> None:
    """A configuration of three seeds, of which the first have ended after these times; inf is a miss."""
    ids = [f"{config_id}-s{seed}" for seed in (1, 2, 3)]
    rule.add(config_id, ids)
    for trial_id, time_s in zip(ids, times, strict=False):
        if math.isfinite(time_s):
            rule.evaluated(trial_id, time_s, 1.0)
        rule.ended(trial_id, Status.BUDGET)


# Noise of the log times: it sums to 0 over seeds and over configurations, and its squares to 8 * 0.1**2.
NOISE = [(0.1, -0.1, 0.0), (-0.1, 0.1, 0.0), (0.1, 0.0, -0.1), (-0.1, 0.0, 0.1)]
DEVIATION, FREEDOM = 0.1 * math.sqrt(8 / 6), 12 - 4 - 2
# Seeds that take longer for all: their effects change no chance.
EFFECTS = (0.0, 0.3, -0.2)


def with_four_known(effects: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Racing:
    rule = racing()
    for number, noise in enumerate(NOISE):
        times = [(2 + number) * math.exp(each + effect) for each, effect in zip(noise, effects, strict=True)]
        known(rule, f"c{number}", *times)
    return rule


def chance_by_hand(first_s: float, effects: tuple[float, ...] = (0.0, 0.0, 0.0)) -> float:
    total_s = sum(2 * math.exp(noise + effect) for noise, effect in zip(NOISE[0], effects, strict=True))
    needed = math.log((total_s - first_s) / sum(math.exp(effect) for effect in effects[1:]))
    error = DEVIATION * math.sqrt((1 + 1 / 2) * (1 + 1 / 4))
    return float(stats.t.cdf((needed - (math.log(first_s) - effects[0])) / error, FREEDOM))


@pytest.mark.parametrize("effects", [(0.0, 0.0, 0.0), EFFECTS])
@pytest.mark.parametrize("first_s", [1.5, 2.0, 2.5, 3.0])
def test_chance_after_the_first_seed_by_hand(first_s: float, effects: tuple[float, ...]) -> None:
    rule = with_four_known(effects)
    known(rule, "new", first_s)
    expected = chance_by_hand(first_s, effects)
    assert rule._chance("new") == pytest.approx(expected)
    assert rule.stops("new", "new-s2") == (expected < LEAST_CHANCE)
    assert rule.why("new") == f"its chance to be among the fastest was {expected:.1%}"


def test_a_hopeless_trial_ends_in_mid_run_as_if_it_reached_the_target_at_once() -> None:
    rule = with_four_known()
    rule.add("new", ["new-s1", "new-s2", "new-s3"])
    costs = [number / 10 for number in range(1, 100)]
    for cost_s in costs:
        rule.evaluated("new-s1", cost_s, 0.5)
        if rule.stops("new", "new-s1"):
            break
    assert cost_s == next(each for each in costs if chance_by_hand(each) < LEAST_CHANCE) < 3


@pytest.mark.parametrize("second_s", [2.9999, 3.0, 3.0001])
def test_a_setting_that_has_spent_what_the_incumbent_took_has_no_chance_left(second_s: float) -> None:
    """Times that lie on a grid are often equal to the last digit."""
    rule = racing()
    for time_s in (2.0, 3.0, 4.0, 5.0):
        known(rule, f"c{time_s}", time_s, time_s, time_s)
    known(rule, "new", 3.0, second_s)
    assert rule._chance("new") == pytest.approx(0.0)
    assert rule.stops("new", "new-s3")


def test_nothing_is_dropped_before_the_noise_is_known() -> None:
    rule = racing()
    for number, noise in enumerate(NOISE[:2]):
        known(rule, f"c{number}", *((2 + number) * math.exp(each) for each in noise))
    known(rule, "slow", 5.0)
    assert not rule.stops("slow", "slow-s2"), "6 - 2 - 2 = 2 degrees of freedom"
    assert rule.why("slow") == ""


def test_misses_say_nothing_about_the_noise() -> None:
    rule = racing()
    for number in range(8):
        known(rule, f"c{number}", math.inf, math.inf, math.inf)
    known(rule, "new", 9.0)
    assert not rule.stops("new", "new-s2")


def test_seeds_start_one_after_another_as_soon_as_the_time_before_is_known() -> None:
    rule, ids = racing(), ["a-s1", "a-s2", "a-s3"]
    rule.add("a", ids)
    assert [rule.holds("a", each) for each in ids] == [False, True, True]
    rule.evaluated("a-s1", 1.0, 0.5)
    assert [rule.holds("a", each) for each in ids] == [False, True, True]
    rule.evaluated("a-s1", 2.0, 0.95)
    assert [rule.holds("a", each) for each in ids] == [False, False, True], "it need not end"
    rule.evaluated("a-s3", 1.0, 0.5)
    assert not rule.holds("a", "a-s3"), "an earlier start has begun it"
    assert not rule.holds("never heard of", "never heard of-s2")


def test_what_a_crashed_incumbent_had_dropped_may_return() -> None:
    rule = with_four_known()
    known(rule, "new", 3.2)
    assert rule.stops("new", "new-s2")
    rule.evaluated("c0-s1", 0.1, 0.5)  # c0 is the incumbent; it is trained again on another seed and crashes
    known(rule, "c5", 3.0 * math.exp(0.1), 3.0, 3.0)
    rule._capping.bounds.remove("c0-s1")
    rule._learn("c0")
    assert not rule.stops("new", "new-s2")


def test_dropped_configurations_return_only_when_that_was_clearly_wrong() -> None:
    """A later start compares again: with 5% to 20% they stay dropped."""
    first_s = next(each / 100 for each in range(300, 100, -1) if chance_by_hand(each / 100) > 0.1)
    fresh, again = with_four_known(), with_four_known()
    for rule in (fresh, again):
        known(rule, "new", first_s)
    again.was_stopped("new")
    assert not fresh.stops("new", "new-s2")
    assert again.stops("new", "new-s2")
    known(again, "good", 2.0)
    again.was_stopped("good")
    assert not again.stops("good", "good-s2")
    assert not again.stops("good", "good-s2"), "it is no longer dropped"


def test_what_was_dropped_waits_at_a_new_start_until_it_can_be_compared() -> None:
    rule = racing()
    rule.add("new", ["new-s1", "new-s2", "new-s3"])
    rule.was_stopped("new")
    assert rule.holds("new", "new-s1")
    for number, noise in enumerate(NOISE):
        known(rule, f"c{number}", *((2 + number) * math.exp(each) for each in noise))
    assert not rule.holds("new", "new-s1")


def test_search_is_told_what_is_expected_of_open_seeds() -> None:
    rule = with_four_known(EFFECTS)
    known(rule, "one", 2.0)
    assert rule.estimate_ref_s("one") == pytest.approx(2.0 * sum(map(math.exp, EFFECTS)) / 3)
    known(rule, "missed", math.inf)
    assert rule.estimate_ref_s("missed") == pytest.approx((10 + 10 + 10 * math.exp(-0.2)) / 3)
    rule.add("none", ["none-s1", "none-s2", "none-s3"])
    rule.evaluated("none-s1", 5.5, 0.5)
    longer = [5 * math.exp(0.1 + 0.2 * place) for place in (1,)] + [5 * math.exp(0.3), 4 * math.exp(0.3), 10.0]
    assert rule.estimate_ref_s("none") == pytest.approx(np.mean([each for each in longer[1:] if each > 5.5]), rel=0.1)
    rule.evaluated("none-s1", 9.9, 0.5)
    assert rule.estimate_ref_s("none") == BUDGET_S
    assert rule.estimate_ref_s("never heard of") is None


def sweep_of(draw: np.random.Generator, num_seeds: int, correlation: float) -> Times:
    """Times [60, seeds] of a sweep: settings 40% apart, seeds 15%; rounded up to evaluations, misses inf."""
    noise = math.sqrt(math.log(1 + 0.15**2))
    shared, own = draw.standard_normal((1, num_seeds)), draw.standard_normal((60, num_seeds))
    logs = draw.normal(math.log(0.5 * BUDGET_S), 0.4, (60, 1))
    logs = logs + noise * (math.sqrt(correlation) * shared + math.sqrt(1 - correlation) * own)
    times: Times = np.ceil(np.exp(logs) / INTERVAL_S) * INTERVAL_S
    return np.where(times > BUDGET_S, math.inf, times)


def played(rule: Capping | Racing, times: Times) -> tuple[float, int]:
    """Run a sweep, one trial at a time. Returns: the share of its cost that is spent, and the finalist."""
    spent_s, means = 0.0, {}
    for number, of_seeds in enumerate(times):
        ids = [f"c{number}-s{seed}" for seed in range(len(of_seeds))]
        rule.add(f"c{number}", ids)
        for trial_id, time_s in zip(ids, of_seeds, strict=True):
            for cost_s in np.arange(1, BUDGET_S / INTERVAL_S + 1) * INTERVAL_S:
                if rule.stops(f"c{number}", trial_id):
                    break
                spent_s += INTERVAL_S
                rule.evaluated(trial_id, cost_s, 1.0 if cost_s >= time_s else 0.0)
            else:
                rule.ended(trial_id, Status.BUDGET)
                continue
            break
        else:
            means[number] = float(np.minimum(of_seeds, BUDGET_S).mean())
    return spent_s / (times.size * BUDGET_S), min(means, key=lambda each: means[each])


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("num_sweeps", [4, pytest.param(100, marks=pytest.mark.slow)])
def test_finalist_is_as_good_as_without_racing_for_much_less(
    num_sweeps: int, num_seeds: int, correlation: float
) -> None:
    shares, is_near = [], []
    for seed in range(num_sweeps):
        times = sweep_of(np.random.default_rng(seed), num_seeds, correlation)
        context = StoppingContext(TARGET, BUDGET_S, INTERVAL_S, keep=1)
        capped_share, best = played(Capping(context), times)
        share, finalist = played(Racing(context), times)
        means = np.minimum(times, BUDGET_S).mean(axis=1)
        assert means[best] == means.min(), "capping is exact"
        is_near.append(means[finalist] <= 1.02 * means[best])
        shares.append((share, capped_share))
    share, capped_share = np.mean(shares, axis=0)
    assert np.mean(is_near) >= 0.95
    assert share <= 0.3
    assert share <= 0.7 * capped_share
    print(f"{num_seeds} {correlation}: {np.mean(is_near):.3f} near, {share:.3f} and {capped_share:.3f} spent")


@pytest.mark.parametrize("confirms", [True, False])
def test_a_trial_is_done_at_the_target_if_its_setting_is_confirmed(confirms: bool) -> None:
    rule = Racing(StoppingContext(TARGET, BUDGET_S, INTERVAL_S, keep=1, confirms=confirms))
    rule.add("a", ["a-s1", "a-s2"])
    rule.evaluated("a-s1", 3.0, TARGET - 0.1)
    assert not rule.is_done("a", "a-s1")
    rule.evaluated("a-s1", 4.0, TARGET)
    rule.evaluated("a-s1", 5.0, TARGET - 0.1)
    assert rule.is_done("a", "a-s1") == confirms
    assert not rule.is_done("a", "a-s2") and not rule.is_done("unknown", "u-s1")
