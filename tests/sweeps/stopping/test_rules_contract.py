"""What every stopping rule must do, whatever it decides by; a new rule is tested by being registered."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from kdas.records import FINAL_STATUSES, STOPPED_STATUSES, Status
from sweeps.engine.objective import objective_of
from sweeps.file.spec import SweepSpec
from sweeps.stopping import STOPPING_RULES, StoppingRule
from tests.sweeps.stopping.curves import CONTEXT

RULES = STOPPING_RULES.names()
TRIALS = {f"c{number}": [f"c{number}-s{seed}" for seed in (1, 2)] for number in range(6)}


def built(name: str) -> StoppingRule:
    rule = STOPPING_RULES.build(STOPPING_RULES.checked(name), CONTEXT)
    for config_id, trial_ids in TRIALS.items():
        rule.add(config_id, trial_ids)
    return rule


def accuracy(config_id: str, cost: int) -> float:
    """Accuracy of a configuration: the higher its number, the worse; the last one diverges."""
    number = int(config_id[1:])
    return math.nan if number == 5 else min(0.99, 0.1 * cost - 0.08 * number)


@pytest.mark.parametrize("name", RULES)
def test_what_a_rule_says_of_itself_is_complete(name: str) -> None:
    rule = built(name)
    assert rule.status in STOPPED_STATUSES
    low, middle, high = rule.cost_shares
    assert 0 < low <= middle <= high <= 1
    if rule.only_for is not None:
        objective = SweepSpec.model_fields["objective"].get_default(call_default_factory=True)
        assert rule.only_for in {objective_of(objective, 1.0).name, "accuracy", "accuracy_at_cost", "pareto"}
    assert STOPPING_RULES[name].summary.endswith(".")


@pytest.mark.parametrize("name", RULES)
def test_nothing_is_stopped_before_anything_is_known(name: str) -> None:
    rule = built(name)
    assert not any(rule.stops(config_id, trial_id) for config_id, ids in TRIALS.items() for trial_id in ids)
    assert not rule.stops("never heard of", "never heard of-s1")


@pytest.mark.parametrize("name", RULES)
def test_best_configuration_runs_to_its_end(name: str) -> None:
    rule = built(name)
    for cost, config_id in product(range(1, 11), TRIALS):
        for trial_id in TRIALS[config_id]:
            rule.evaluated(trial_id, float(cost), accuracy(config_id, cost))
        assert not any(rule.stops("c0", trial_id) for trial_id in TRIALS["c0"])


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("status", [Status.CRASHED, *sorted(FINAL_STATUSES - STOPPED_STATUSES)])
def test_trials_may_end_at_any_time_and_again(name: str, status: Status) -> None:
    rule = built(name)
    for trial_id in (*TRIALS["c1"], *TRIALS["c1"], "never heard of-s1"):
        rule.ended(trial_id, status)
        rule.evaluated(trial_id, 3.0, 0.5)
    assert not rule.stops("c0", "c0-s1")


@pytest.mark.parametrize("name", RULES)
def test_a_restart_comes_to_the_same_decisions_in_any_order_of_trials(name: str) -> None:
    """A restarted rule hears the rows on disk trial by trial; a row that it hears twice counts once."""
    whole, shuffled = built(name), list(product(TRIALS, (0, 1)))
    random.Random(3).shuffle(shuffled)
    again = built(name)
    for config_id, seed in product(TRIALS, (0, 1)):
        for cost in range(1, 6):
            whole.evaluated(TRIALS[config_id][seed], float(cost), accuracy(config_id, cost), again=True)
    for config_id, seed in shuffled * 2:
        for cost in range(1, 6):
            again.evaluated(TRIALS[config_id][seed], float(cost), accuracy(config_id, cost), again=True)
    for config_id, seed in product(TRIALS, (0, 1)):
        for rule in (whole, again):
            rule.evaluated(TRIALS[config_id][seed], 6.0, accuracy(config_id, 6))
        trial_id = TRIALS[config_id][seed]
        assert whole.stops(config_id, trial_id) == again.stops(config_id, trial_id)
