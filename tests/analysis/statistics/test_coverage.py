"""Simulated sweeps whose truth is known: how often the interval that is quoted holds it."""

from __future__ import annotations

import pytest
from scipy import stats

from benchmarks.claims import Truth, covered, covered_beside_the_fastest
from benchmarks.misses import Missing

NUM_SWEEPS = 4000


@pytest.mark.parametrize("num_seeds", [5, 10, 20])
@pytest.mark.parametrize("missing", [0.0, 0.1, 0.3, 0.5])
def test_the_interval_over_seeds_covers_as_it_says(missing: float, num_seeds: int) -> None:
    assert 0.93 <= Missing(missing=missing).covered(NUM_SWEEPS, num_seeds) <= 0.97


@pytest.mark.parametrize("truth", [Missing(spread=0.05), Missing(shared=0.0, speedup=1.0), Missing(speedup=4.0)])
def test_it_covers_whatever_the_spread_and_the_speedup(truth: Missing) -> None:
    assert 0.93 <= truth.covered(NUM_SWEEPS, num_seeds=5) <= 0.97


def test_with_two_or_three_seeds_it_is_wide_rather_than_wrong() -> None:
    assert Missing().covered(NUM_SWEEPS, num_seeds=2) >= 0.95 and Missing().covered(NUM_SWEEPS, num_seeds=3) >= 0.94


def test_where_most_seeds_miss_or_some_fail_it_covers_less_as_the_documentation_says() -> None:
    assert 0.86 <= Missing(missing=0.8).covered(NUM_SWEEPS, num_seeds=5) <= 0.90
    assert 0.38 <= Missing(spread=0.1, failing=0.1).covered(NUM_SWEEPS, num_seeds=5) <= 0.46


def test_the_bootstrap_over_five_seeds_covers_less_than_nine_in_ten() -> None:
    assert 0.75 <= Missing().bootstrapped(500, num_seeds=5) <= 0.90


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("price_error", [0.02, 0.05])
@pytest.mark.parametrize("spread", [0.1, 0.2, 0.3])
def test_the_quoted_interval_covers_with_errors_of_prices_and_a_grid(
    spread: float, price_error: float, num_seeds: int
) -> None:
    truth = Truth((1.0, 1.28), spread=spread, grid=0.2, price_error=price_error)
    most = stats.binom.isf(0.001, NUM_SWEEPS, 0.98) / NUM_SWEEPS
    assert 0.93 <= covered(truth, NUM_SWEEPS, num_seeds) <= most


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_on_a_grid_coarser_than_the_spread_it_is_wide_rather_than_wrong(num_seeds: int) -> None:
    assert covered(Truth((1.0, 1.28), spread=0.1, grid=2.0), NUM_SWEEPS, num_seeds) >= 0.97


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_they_nearly_do_beside_the_fastest_of_three_plain_settings(num_seeds: int) -> None:
    truth = Truth((1.0,) * 8, num_plain=3, spread=0.2)
    assert covered_beside_the_fastest(truth, NUM_SWEEPS, num_seeds) >= 0.93


@pytest.mark.parametrize("num_seeds", [3, 5, 10])
def test_all_intervals_of_a_table_hold_together(num_seeds: int) -> None:
    truth = Truth((1.0, 1.28, 1.0, 0.8, 1.1, 1.28), spread=0.2, grid=0.2, price_error=0.02)
    assert covered(truth, NUM_SWEEPS, num_seeds) >= 0.95
