"""Golden test G6 (bounds), and what each status says about a missed target."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.statistics.censoring import bounds, mean_bounds
from kdas.records import Status


def test_g6_mean_bounds_of_two_hits_a_crash_and_a_miss() -> None:
    mean = mean_bounds(
        [
            bounds(Status.REACHED, 30, 30, 60),
            bounds(Status.CRASHED, math.inf, 40, 60),
            bounds(Status.REACHED, 50, 50, 60),
            bounds(Status.BUDGET, math.inf, 60, 60),
        ]
    )
    assert (mean.lower_s, mean.upper_s) == (45, 50)
    assert (mean.num_reached, mean.num_trials) == (2, 4)


@pytest.mark.parametrize("status", [Status.BUDGET, Status.DIVERGED])
def test_a_final_miss_costs_the_full_budget(status: Status) -> None:
    missed = bounds(status, math.inf, 12, 100)
    assert (missed.lower_s, missed.upper_s, missed.reached, missed.censored) == (100, 100, False, True)


@pytest.mark.parametrize("status", [Status.CRASHED, Status.STOPPED_EARLY, Status.CAPPED, Status.RUNNING])
def test_a_trial_cut_off_only_bounds_its_time(status: Status) -> None:
    cut = bounds(status, math.inf, 12, 100)
    assert (cut.lower_s, cut.upper_s) == (12, 100)


@pytest.mark.parametrize("status", list(Status))
def test_a_hit_stays_whatever_came_after_it(status: Status) -> None:
    hit = bounds(status, 30, 80, 100)
    assert (hit.lower_s, hit.upper_s, hit.reached, hit.censored) == (30, 30, True, False)


def test_a_hit_beyond_the_budget_is_a_miss() -> None:
    late = bounds(Status.REACHED, 130, 130, 100)
    assert (late.lower_s, late.upper_s, late.reached, late.censored) == (100, 100, False, True)
    # Plain distillation ends at the budget itself, a sum of the same costs in another order.
    at_the_end = bounds(Status.REACHED, 100 * (1 + 1e-15), 100, 100)
    assert at_the_end.reached and at_the_end.upper_s == 100


def test_no_trials_have_no_mean() -> None:
    assert math.isnan(mean_bounds([]).lower_s)


@given(st.sampled_from(list(Status)), st.floats(0.1, 500) | st.just(math.inf), st.floats(0, 500), st.floats(1, 300))
def test_the_bounds_hold_the_restricted_time(status: Status, tta_s: float, last_s: float, tau_s: float) -> None:
    bound = bounds(status, tta_s, last_s, tau_s)
    assert 0 <= bound.lower_s <= bound.upper_s <= tau_s
    assert bound.reached == (tta_s <= tau_s * (1 + 1e-9))
    assert bound.censored != bound.reached
