"""Properties of the schedules, which change values from epoch to epoch."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdas.schedules import exclusion_rate, is_sampling_epoch, learning_rate, sampling_rate

quickly = settings(max_examples=100)
rates = st.floats(0.01, 1)
lengths = st.integers(1, 300)
periods = st.one_of(st.integers(1, 20), st.lists(st.integers(1, 20), min_size=1, max_size=6))


@quickly
@given(lengths, rates, rates, st.integers(0, 20))
def test_sampling_rate_stays_between_its_ends(epochs: int, start: float, end: float, warmup: int) -> None:
    for epoch in range(warmup + 1, warmup + epochs + 1):
        rate = sampling_rate(epoch, warmup + epochs, start, end, warmup)
        assert min(start, end) - 1e-12 <= rate <= max(start, end) + 1e-12


@quickly
@given(st.integers(2, 300), rates, rates, st.integers(0, 20))
def test_sampling_rate_goes_from_start_to_end_without_turning(
    epochs: int, start: float, end: float, warmup: int
) -> None:
    curve = [sampling_rate(epoch, warmup + epochs, start, end, warmup) for epoch in range(1, warmup + epochs + 1)]
    assert curve[:warmup] == [1.0] * warmup
    assert curve[warmup] == pytest.approx(start) and curve[-1] == pytest.approx(end)
    assert curve[warmup:] == sorted(curve[warmup:], reverse=start > end)


def test_sampling_rate_of_a_single_epoch_is_the_start_rate() -> None:
    assert sampling_rate(1, 1, 0.6, 0.4) == 0.6
    assert sampling_rate(3, 3, 0.6, 0.4, warmup_epochs=2) == 0.6


@quickly
@given(st.integers(1, 200), periods, st.integers(0, 20))
def test_first_epoch_after_warm_up_samples_and_none_before(epochs: int, period: int | list[int], warmup: int) -> None:
    total = warmup + epochs
    assert not any(is_sampling_epoch(epoch, total, period, warmup) for epoch in range(1, warmup + 1))
    assert is_sampling_epoch(warmup + 1, total, period, warmup)


@quickly
@given(st.integers(1, 200), st.integers(1, 20))
def test_one_period_and_a_list_of_it_sample_alike(epochs: int, period: int) -> None:
    for epoch in range(1, epochs + 1):
        expected = (epoch - 1) % period == 0
        assert is_sampling_epoch(epoch, epochs, period) == is_sampling_epoch(epoch, epochs, [period]) == expected


def test_epochs_that_do_not_divide_evenly_belong_to_the_last_segment() -> None:
    chosen = [epoch for epoch in range(1, 12) if is_sampling_epoch(epoch, 11, [1, 2, 5])]
    assert chosen == [1, 2, 3, 5, 11]  # segments 1-3, 4-6, 7-11


def test_more_periods_than_epochs_still_give_a_schedule() -> None:
    assert [is_sampling_epoch(epoch, 2, [1, 2, 3]) for epoch in (1, 2)] == [True, False]


@quickly
@given(lengths, st.floats(0, 0.99), st.floats(0, 0.99))
def test_exclusion_is_held_then_falls_to_zero(epochs: int, rate: float, hold: float) -> None:
    curve = [exclusion_rate(epoch, epochs, rate, hold) for epoch in range(1, epochs + 1)]
    held = math.floor(hold * epochs)
    assert curve[:held] == [rate] * held
    assert curve[-1] == 0
    assert curve == sorted(curve, reverse=True) and all(0 <= value <= rate for value in curve)


def test_exclusion_of_the_official_length_is_held_for_150_epochs_and_falls_linearly() -> None:
    assert exclusion_rate(150, 240, 0.05) == 0.05
    assert exclusion_rate(195, 240, 0.05) == pytest.approx(0.025)
    assert exclusion_rate(240, 240, 0.05) == 0


def test_cosine_learning_rate_starts_at_its_base_and_falls_towards_the_final_one() -> None:
    curve = [learning_rate(epoch, 240, base=0.05, schedule="cosine", final=1e-5) for epoch in range(1, 241)]
    assert curve[0] == 0.05
    assert curve[120] == pytest.approx((0.05 + 1e-5) / 2)
    assert curve == sorted(curve, reverse=True) and 1e-5 < curve[-1] < 2e-5


def test_step_learning_rate_is_divided_by_ten_after_epochs_150_180_and_210() -> None:
    curve = {epoch: learning_rate(epoch, 240, base=0.05, schedule="step", final=0.0) for epoch in range(1, 241)}
    assert [curve[epoch] for epoch in (1, 150, 151, 180, 181, 210, 211, 240)] == pytest.approx(
        [0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005]
    )
