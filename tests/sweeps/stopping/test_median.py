"""The median rule on the cost axis, computed by hand."""

from __future__ import annotations

from sweeps.stopping.median import MedianStopping
from tests.sweeps.stopping.curves import CONTEXT, constant, stopped


def test_median_rule_by_hand() -> None:
    rule = MedianStopping(CONTEXT, grace=0.3, at_least=2)
    trials = {"a": constant(0.5), "b": constant(0.7), "c": constant(0.55), "d": constant(0.65), "e": constant(0.1)}
    assert stopped(rule, trials) == {"c": 3.0, "e": 3.0}


def test_median_rule_goes_by_the_best_so_far() -> None:
    rule = MedianStopping(CONTEXT, grace=0.1, at_least=1)
    once_high = [(1.0, 0.9), *((float(cost), 0.1) for cost in range(2, 11))]
    assert stopped(rule, {"a": constant(0.8), "b": once_high}) == {}
