"""Looks at a confirmation, by published constants and by simulations whose truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from sweeps.engine.sequential import (
    ERROR,
    LEAST_CHANCE,
    Floats,
    Times,
    chance_of_decision,
    is_decided,
    level_at,
    looks_between,
)

LOOKS = looks_between(5, 30)
# Of a trial's time: its standard deviation over seeds, as a fraction of its mean.
VARIATION = 0.15


def known(times: Floats) -> Times:
    return Times(times, times)


@dataclass(frozen=True)
class Ended:
    """How simulated confirmations ended: on average after `num_seeds`; shares of sweeps whose claim was decided."""

    num_seeds: float
    for_candidate: float
    for_plain: float


def confirmed(
    num_sweeps: int,
    *,
    ratio: float = 1.0,
    correlation: float = 0.0,
    num_plain: int = 1,
    num_candidates: int = 1,
    looks: tuple[int, ...] = LOOKS,
) -> Ended:
    """Simulate confirmations. Args: ratio: of plain to the first candidate; all others equal plain."""
    draw = np.random.default_rng(7)
    means = np.array([1.0] * num_plain + [1 / ratio] + [1.0] * (num_candidates - 1))
    level = level_at(looks, len(means) - 1)
    num_seeds = for_candidate = for_plain = 0
    for _ in range(num_sweeps):
        own, of_seed = draw.standard_normal((len(means), looks[-1])), draw.standard_normal(looks[-1])
        noise = math.sqrt(1 - correlation) * own + math.sqrt(correlation) * of_seed
        times = means[:, None] * (1 + VARIATION * noise)
        for place, look in enumerate(looks):
            configurations = [known(each) for each in times[:, :look]]
            plain, candidates = configurations[:num_plain], configurations[num_plain:]
            if is_decided(plain, candidates, level):
                soonest = int(np.argmin(times[:, :look].mean(axis=1)))
                for_plain += soonest < num_plain
                for_candidate += soonest >= num_plain
                break
            if place and chance_of_decision(plain, candidates, level, looks[place + 1 :]) < LEAST_CHANCE:
                break
        num_seeds += look
    return Ended(num_seeds / num_sweeps, for_candidate / num_sweeps, for_plain / num_sweeps)


def test_looks_are_close_at_first_and_then_a_quarter_apart() -> None:
    assert LOOKS == (5, 6, 7, 8, 9, 10, 12, 15, 18, 22, 27, 30)
    assert looks_between(4, 4) == (4,)
    assert looks_between(20, 40) == (20, 25, 31, 38, 40)


@pytest.mark.parametrize(("num_looks", "nominal"), [(2, 0.0294), (3, 0.0221), (4, 0.0182), (5, 0.0158)])
def test_levels_of_equally_spaced_looks_are_those_of_pocock(num_looks: int, nominal: float) -> None:
    """Pocock, Biometrika 1977, table 1: for normal statistics, which t with hundreds of pairs nearly is."""
    looks = tuple(400 * number for number in range(1, num_looks + 1))
    assert level_at(looks, 1) == pytest.approx(nominal, rel=0.02)


def test_a_single_look_has_the_whole_level() -> None:
    assert level_at((10,), 1) == ERROR
    assert level_at((10,), 4) == ERROR / 4


def test_levels_too_small_to_simulate_are_those_of_bonferroni() -> None:
    assert level_at(LOOKS, 1000) == ERROR / 1000 / len(LOOKS)
    assert level_at(LOOKS, 1000) < level_at(LOOKS, 250) < level_at(LOOKS, 100)


@pytest.mark.parametrize("num_comparisons", [1, 5, 9])
@pytest.mark.parametrize("looks", [LOOKS, looks_between(2, 8), (5, 30)])
def test_a_comparison_without_a_difference_is_below_the_level_as_often_as_promised(
    looks: tuple[int, ...], num_comparisons: int
) -> None:
    """By scipy's t test at every look, on other random numbers than those that set the level."""
    num_sweeps = 60_000
    differences = np.random.default_rng(1).standard_normal((num_sweeps, looks[-1]))
    p_values = [stats.ttest_1samp(differences[:, :look], 0, axis=1).pvalue for look in looks]
    share = float(np.mean(np.min(p_values, axis=0) < level_at(looks, num_comparisons)))
    promised = ERROR / num_comparisons
    assert share == pytest.approx(promised, abs=4 * math.sqrt(promised / num_sweeps))


@pytest.mark.parametrize("looks", [LOOKS, looks_between(4, 10)])
@pytest.mark.parametrize("num_comparisons", [1, 5, 9])
@pytest.mark.parametrize(
    ("num_sweeps", "allowed"), [(400, 0.08), pytest.param(4000, 0.057, marks=pytest.mark.slow)], ids=["400", "4000"]
)
def test_where_nothing_differs_few_confirmations_are_decided(
    num_sweeps: int, allowed: float, num_comparisons: int, looks: tuple[int, ...]
) -> None:
    """`allowed` is the promised share and two standard errors, or three with few sweeps."""
    ended = confirmed(num_sweeps, num_candidates=num_comparisons, looks=looks)
    assert ended.for_candidate + ended.for_plain <= allowed
    assert ended.num_seeds < 16, "most are found not worth deciding long before the last look"


@pytest.mark.parametrize(
    ("correlation", "at_most", "power"), [(0.0, 9.8, 0.99), (0.5, 7.0, 0.99)], ids=["unrelated", "related"]
)
@pytest.mark.parametrize(
    ("num_sweeps", "slack"), [(300, 0.3), pytest.param(4000, 0.0, marks=pytest.mark.slow)], ids=["300", "4000"]
)
def test_a_clear_difference_takes_fewer_seeds_than_ten(
    num_sweeps: int, slack: float, correlation: float, at_most: float, power: float
) -> None:
    """The candidate is 1.28 times as fast. Ten seeds would show that in 89% of sweeps with unrelated seeds.

    Args: slack: allowed to few sweeps, about two standard errors of their mean.
    """
    ended = confirmed(num_sweeps, ratio=1.28, correlation=correlation)
    assert ended.num_seeds <= at_most + slack
    assert ended.for_candidate >= power
    assert ended.for_plain < 0.01


@pytest.mark.parametrize("num_candidates", [1, 3])
@pytest.mark.parametrize("correlation", [0.0, 0.5], ids=["unrelated", "related"])
@pytest.mark.parametrize(
    ("num_sweeps", "slack"), [(300, 0.3), pytest.param(4000, 0.0, marks=pytest.mark.slow)], ids=["300", "4000"]
)
def test_of_at_most_ten_seeds_seven_are_enough_on_average(
    num_sweeps: int, slack: float, correlation: float, num_candidates: int
) -> None:
    """Args: slack: as above."""
    ended = confirmed(
        num_sweeps,
        ratio=1.28,
        correlation=correlation,
        num_candidates=num_candidates,
        looks=looks_between(4, 10),
    )
    assert ended.num_seeds <= 7.0 + slack
    assert ended.for_candidate > 0.5
    assert ended.for_plain < 0.01


def test_a_decision_takes_fewer_seeds_than_a_fixed_number_that_is_as_sure() -> None:
    """Unrelated seeds, four configurations."""
    sure = confirmed(300, ratio=1.28, num_candidates=3)
    assert confirmed(300, ratio=1.28, num_candidates=3, looks=(20,)).for_candidate <= sure.for_candidate
    assert sure.num_seeds < 0.65 * 20


# By hand: gains of 1, 2, 3, 4, 5 have mean 3 and standard deviation 1.5811, so t is 4.2426 and p 0.01324.
PLAIN = np.array([11.0, 12.0, 13.0, 14.0, 15.0])
SOONER = np.full(5, 10.0)
# As fast as that on average, with some spread.
AS_SOON = np.array([10.1, 9.9, 10.2, 9.8, 10.0])


@pytest.mark.parametrize(("level", "decided"), [(0.0133, True), (0.0132, False)])
def test_a_decision_by_hand(level: float, decided: bool) -> None:
    assert is_decided([known(PLAIN)], [known(SOONER)], level) is decided
    assert is_decided([known(SOONER)], [known(PLAIN)], level) is decided, "plain distillation may win too"


def test_every_plain_configuration_must_be_beaten() -> None:
    assert not is_decided([known(PLAIN), known(AS_SOON)], [known(SOONER)], 0.05)
    assert is_decided([known(PLAIN)], [known(SOONER), known(AS_SOON)], 0.05)


def test_the_soonest_plain_must_beat_every_candidate() -> None:
    assert is_decided([known(SOONER)], [known(PLAIN), known(PLAIN + 1)], 0.05)
    assert not is_decided([known(SOONER)], [known(PLAIN), known(AS_SOON)], 0.05)


def test_a_time_that_is_not_known_counts_against_whoever_gains_by_it() -> None:
    crashed = Times(np.array([2.0, *SOONER[1:]]), np.array([20.0, *SOONER[1:]]))
    assert not is_decided([known(PLAIN)], [crashed], 0.05)
    assert not is_decided([crashed], [known(PLAIN)], 0.05)


def test_a_coarse_evaluation_grid_takes_a_larger_difference() -> None:
    """By hand: means 13 and 10, so the ratio is 1.3 and its logarithm 0.26236; a gap of 2.6 of 13 seconds is 20%.

    The grid widens by -log(1 - 0.2) = 0.22314. What the interval must exclude is then
    exp(0.26236 - sqrt(0.26236**2 - 0.22314**2)) = 1.13244, so gains are 11 to 15 less 11.3244: mean 1.6756, t 2.3697.
    p of t with 4 degrees of freedom is 0.07685.
    """
    coarse = Times(PLAIN, PLAIN, gap_s=2.6)
    assert is_decided([coarse], [known(SOONER)], 0.0769)
    assert not is_decided([coarse], [known(SOONER)], 0.0768)
    assert is_decided([known(PLAIN)], [Times(SOONER, SOONER, gap_s=2.0)], 0.0133), "the faster one's grid is no doubt"


def test_hits_at_first_evaluations_decide_nothing_and_never_will() -> None:
    first = Times(PLAIN, PLAIN, gap_s=float(PLAIN.mean()))
    assert not is_decided([first], [known(SOONER)], 0.5)
    assert chance_of_decision([first], [known(SOONER)], 0.5, [30]) < 1e-6


def test_equal_times_decide_nothing_and_never_will() -> None:
    assert not is_decided([known(PLAIN)], [known(PLAIN)], 0.05)
    assert chance_of_decision([known(PLAIN)], [known(PLAIN)], 0.05, [6, 30]) == 0.0


def test_a_difference_without_any_spread_is_decided() -> None:
    assert is_decided([known(PLAIN)], [known(PLAIN - 1)], 0.001)


def test_the_chance_of_a_decision_by_hand() -> None:
    """Ten gains of mean 0 and standard deviation 1; at 30 pairs t must be over 2.0452, so the mean over 0.37340.

    Given the first ten, the mean of 30 has the standard deviation sqrt(1/10 - 1/30) = 0.25820: the chance to exceed
    0.37340 is that of a normal number over 1.4462, 0.07406, and as much for the other side.
    """
    gains = np.array([1.0, -1.0] * 5)
    gains /= gains.std(ddof=1)
    plain, candidate = known(10 + gains), known(np.full(10, 10.0))
    assert chance_of_decision([plain], [candidate], 0.05, [30]) == pytest.approx(2 * 0.07406, abs=2e-5)
    assert chance_of_decision([plain], [candidate], 0.05, [12, 30]) == pytest.approx(2 * 0.07406, abs=2e-5)
    assert chance_of_decision([plain], [candidate], 0.05, []) == 0.0


def test_a_second_plain_configuration_makes_a_decision_no_likelier() -> None:
    draw = np.random.default_rng(2)
    one, other, candidate = (known(draw.normal(10, 1, 8)) for _ in range(3))
    alone = chance_of_decision([one], [candidate], 0.05, [30])
    assert chance_of_decision([one, one], [candidate], 0.05, [30]) == pytest.approx(alone)
    assert chance_of_decision([one, other], [candidate], 0.05, [30]) <= alone + chance_of_decision(
        [other], [candidate], 0.05, [30]
    )
