"""Golden test G1 (DAWNBench sample, hours and per cent) and the properties of the readings of "reached"."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.time_to_accuracy import grid_gap, hold_to_end, linear_interpolation, time_to_accuracy, two_in_a_row

HOURS = [0.0716667, 0.1461111, 0.2180556, 0.2902778, 0.3622222, 0.4341667, 0.5061111]
PER_CENT = [33.57, 52.51, 61.71, 69.46, 71.47, 69.64, 75.81]

accuracies = st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=30)
targets = st.floats(0.01, 1)


def cost_of(accuracy: list[float]) -> list[float]:
    return [10.0 * (index + 1) for index in range(len(accuracy))]


def test_g1_every_reading_of_the_dawnbench_sample_at_70() -> None:
    assert time_to_accuracy(HOURS, PER_CENT, 70) == 0.3622222
    assert linear_interpolation(HOURS, PER_CENT, 70) == pytest.approx(0.309606, abs=1e-6)
    assert two_in_a_row(HOURS, PER_CENT, 70) == math.inf
    assert hold_to_end(HOURS, PER_CENT, 70) == 0.5061111


def test_g1_a_target_above_the_curve_is_never_reached() -> None:
    assert time_to_accuracy(HOURS, PER_CENT, 94) == math.inf
    assert math.isnan(grid_gap(HOURS, PER_CENT, 94))


def test_equality_reaches() -> None:
    assert time_to_accuracy([1.0, 2.0], [0.5, 0.9], 0.9) == 2.0


def test_nan_is_not_reached_and_keeps_an_earlier_hit() -> None:
    assert time_to_accuracy([1.0, 2.0, 3.0], [math.nan, 0.9, math.nan], 0.9) == 2.0
    assert time_to_accuracy([1.0], [math.nan], 0.1) == math.inf


def test_a_hit_after_nan_is_not_interpolated() -> None:
    assert linear_interpolation([1.0, 2.0], [math.nan, 0.9], 0.5) == 2.0


def test_two_in_a_row_costs_the_first_of_the_two() -> None:
    assert two_in_a_row([1.0, 2.0, 3.0, 4.0], [0.9, 0.1, 0.9, 0.9], 0.5) == 3.0


def test_the_gap_before_a_hit_counts_from_the_evaluation_before_it() -> None:
    assert grid_gap([8.0, 10.0], [0.1, 0.9], 0.5) == pytest.approx(0.2)
    assert grid_gap([8.0, 10.0], [0.9, 0.9], 0.5) == 1.0


def test_costs_and_accuracies_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        time_to_accuracy([1.0, 2.0], [0.1], 0.5)


@given(accuracies, targets)
def test_stricter_readings_never_come_earlier(accuracy: list[float], target: float) -> None:
    cost = cost_of(accuracy)
    first = time_to_accuracy(cost, accuracy, target)
    assert linear_interpolation(cost, accuracy, target) <= first + 1e-9
    assert first <= two_in_a_row(cost, accuracy, target)
    assert first <= hold_to_end(cost, accuracy, target)


@given(accuracies, targets, targets)
def test_a_higher_target_never_comes_earlier(accuracy: list[float], one: float, other: float) -> None:
    cost = cost_of(accuracy)
    assert time_to_accuracy(cost, accuracy, min(one, other)) <= time_to_accuracy(cost, accuracy, max(one, other))
