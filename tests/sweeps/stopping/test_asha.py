"""Halving on the cost axis, computed by hand and after restarts."""

from __future__ import annotations

import math

from sweeps.stopping.asha import Asha
from tests.sweeps.stopping.curves import CONTEXT, constant, stopped


def test_halving_keeps_the_best_third_at_each_rung() -> None:
    """Budget 10, first rung at 1, factor 3: rungs at 1, 3 and 9."""
    rule = Asha(CONTEXT, reduction_factor=3, grace=0.1)
    trials = {"a": constant(0.5), "b": constant(0.6), "c": constant(0.7), "d": constant(0.4), "e": constant(0.8)}
    # The first two trials have no third to be compared with. After that, only the best third continues.
    assert stopped(rule, trials) == {"d": 1.0}


def test_halving_stops_late_where_the_first_rung_was_passed() -> None:
    rule = Asha(CONTEXT, reduction_factor=2, grace=0.5)
    late = [(1.0, 0.9), (5.0, 0.2)]
    assert stopped(rule, {"a": constant(0.95), "b": late}) == {"b": 5.0}


def test_nan_is_never_among_the_best() -> None:
    rule = Asha(CONTEXT, reduction_factor=2, grace=0.1)
    assert stopped(rule, {"a": constant(0.1), "b": constant(math.nan)}) == {"b": 1.0}


def test_halving_after_a_restart_counts_each_trial_once_and_decides_nothing_again() -> None:
    rule = Asha(CONTEXT, reduction_factor=2, grace=0.1)
    for trial_id, accuracy in (("a", 0.5), ("b", 0.4), ("c", 0.9)):
        rule.evaluated(trial_id, 1.0, accuracy, again=True)
        assert not rule.stops("", trial_id)
    rule.evaluated("c", 1.0, 0.9)  # resumed from its checkpoint: the same row again
    rule.evaluated("d", 1.0, 0.8)
    assert not rule.stops("", "d"), "the second of four"
    rule.evaluated("e", 1.0, 0.45)
    assert rule.stops("", "e")
