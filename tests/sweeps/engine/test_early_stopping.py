"""Halving and the median rule on the cost axis, by hand and after restarts."""

from __future__ import annotations

import math

from sweeps.engine.stopping.rules import Asha, EarlyStopping, MedianStopping


def stopped(rule: EarlyStopping, trials: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Runs trials one after another. Returns: those that were stopped, and at which cost."""
    found = {}
    for trial_id, curve in trials.items():
        for cost, accuracy in curve:
            rule.evaluated(trial_id, cost, accuracy)
            if rule.stops("", trial_id):
                found[trial_id] = cost
                break
    return found


def constant(accuracy: float) -> list[tuple[float, float]]:
    return [(float(cost), accuracy) for cost in range(1, 11)]


def test_halving_keeps_the_best_third_at_each_rung() -> None:
    """Budget 10, first rung at 1, factor 3: rungs at 1, 3 and 9."""
    rule = Asha(10.0, reduction_factor=3, grace=0.1)
    trials = {"a": constant(0.5), "b": constant(0.6), "c": constant(0.7), "d": constant(0.4), "e": constant(0.8)}
    # Two that came first know no third one; then only who is among the best third goes on.
    assert stopped(rule, trials) == {"d": 1.0}


def test_halving_stops_late_where_the_first_rung_was_passed() -> None:
    rule = Asha(10.0, reduction_factor=2, grace=0.5)
    late = [(1.0, 0.9), (5.0, 0.2)]
    assert stopped(rule, {"a": constant(0.95), "b": late}) == {"b": 5.0}


def test_nan_is_never_among_the_best() -> None:
    rule = Asha(10.0, reduction_factor=2, grace=0.1)
    assert stopped(rule, {"a": constant(0.1), "b": constant(math.nan)}) == {"b": 1.0}


def test_halving_after_a_restart_counts_each_trial_once_and_decides_nothing_again() -> None:
    rule = Asha(10.0, reduction_factor=2, grace=0.1)
    for trial_id, accuracy in (("a", 0.5), ("b", 0.4), ("c", 0.9)):
        rule.evaluated(trial_id, 1.0, accuracy, again=True)
        assert not rule.stops("", trial_id)
    rule.evaluated("c", 1.0, 0.9)  # from its checkpoint: the same row
    rule.evaluated("d", 1.0, 0.8)
    assert not rule.stops("", "d"), "the second of four"
    rule.evaluated("e", 1.0, 0.45)
    assert rule.stops("", "e")


def test_median_rule_by_hand() -> None:
    rule = MedianStopping(10.0, interval_ref_s=1.0, grace=0.3, at_least=2)
    trials = {"a": constant(0.5), "b": constant(0.7), "c": constant(0.55), "d": constant(0.65), "e": constant(0.1)}
    assert stopped(rule, trials) == {"c": 3.0, "e": 3.0}


def test_median_rule_goes_by_the_best_so_far() -> None:
    rule = MedianStopping(10.0, interval_ref_s=1.0, grace=0.1, at_least=1)
    once_high = [(1.0, 0.9), *((float(cost), 0.1) for cost in range(2, 11))]
    assert stopped(rule, {"a": constant(0.8), "b": once_high}) == {}
