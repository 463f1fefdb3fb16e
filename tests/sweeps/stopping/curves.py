"""Curves written by hand, and a function that shows them to a stopping rule."""

from __future__ import annotations

from sweeps.stopping import StoppingContext, StoppingRule

# A budget of 10 reference seconds, with an evaluation after each of them.
CONTEXT = StoppingContext(target=0.9, budget_ref_s=10.0, interval_ref_s=1.0, keep=1)


def stopped(rule: StoppingRule, trials: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    """Run trials one after another; returns those that were stopped, and at which cost."""
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
