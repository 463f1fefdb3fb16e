"""The interval of a share, against scipy's."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from analysis.statistics.binomial import share_interval


@pytest.mark.parametrize("num_tries", [1, 3, 5, 10, 30])
def test_interval_of_a_share_is_scipys(num_tries: int) -> None:
    for num_hits in range(num_tries + 1):
        expected = stats.binomtest(num_hits, num_tries).proportion_ci(0.95, method="exact")
        assert share_interval(num_hits, num_tries) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_without_tries_there_is_no_interval() -> None:
    assert all(map(math.isnan, share_interval(0, 0)))
