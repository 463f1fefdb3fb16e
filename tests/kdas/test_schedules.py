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


def test_step_divides_by_ten_after_each_milestone() -> None:
    usual = [learning_rate(epoch, 240, base=1.0, schedule="step", final=0.0) for epoch in range(1, 241)]
    assert usual == pytest.approx([1.0] * 150 + [0.1] * 30 + [0.01] * 30 + [0.001] * 30)


@quickly
@given(st.integers(2, 1000), st.data())
def test_milestone_at_an_epoch_is_reached_after_that_epoch(epochs: int, data: st.DataObject) -> None:
    stage = data.draw(st.integers(1, epochs - 1))
    given = {"base": 1.0, "schedule": "step", "final": 0.0, "milestones": [stage / epochs]}
    before, after = (learning_rate(epoch, epochs, **given) for epoch in (stage, stage + 1))  # type: ignore[arg-type]
    assert (before, after) == (1.0, 0.1)


def test_linear_learning_rate_falls_straight_towards_the_final_one() -> None:
    curve = [learning_rate(epoch, 10, base=1.0, schedule="linear", final=0.1) for epoch in range(1, 11)]
    assert curve == pytest.approx([1.0, 0.91, 0.82, 0.73, 0.64, 0.55, 0.46, 0.37, 0.28, 0.19])


def test_trapezoid_rises_holds_and_falls_straight_in_the_last_share_of_the_epochs_after_warm_up() -> None:
    rate = {"base": 1.0, "schedule": "trapezoid", "final": 0.0, "warmup_epochs": 3}
    curve = [learning_rate(epoch, 13, decay_share=0.4, **rate) for epoch in range(1, 14)]  # type: ignore[arg-type]
    assert curve == pytest.approx([0.25, 0.5, 0.75, *[1.0] * 7, 0.75, 0.5, 0.25])


@quickly
@given(st.integers(2, 300), st.floats(0.01, 1), st.integers(0, 20))
def test_trapezoid_that_decays_all_the_time_is_linear(epochs: int, final: float, warmup: int) -> None:
    for epoch in range(1, warmup + epochs + 1):
        given = {"base": 1.0, "final": final, "warmup_epochs": warmup}
        linear, trapezoid = (
            learning_rate(epoch, warmup + epochs, schedule=name, **given)  # type: ignore[arg-type]
            for name in ("linear", "trapezoid")
        )
        assert trapezoid == pytest.approx(linear)


def test_step_learning_rate_is_divided_by_ten_after_epochs_150_180_and_210() -> None:
    curve = {epoch: learning_rate(epoch, 240, base=0.05, schedule="step", final=0.0) for epoch in range(1, 241)}
    assert [curve[epoch] for epoch in (1, 150, 151, 180, 181, 210, 211, 240)] == pytest.approx(
        [0.05, 0.05, 0.005, 0.005, 0.0005, 0.0005, 0.00005, 0.00005]
    )
