"""Golden tests G5 and G6, and the trials for which survival curves are not valid."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.findings.survival import of_trials
from analysis.statistics.survival import kaplan_meier, log_rank
from kdas.errors import UserError
from kdas.records import Status

# Freireich et al., Blood 1963: weeks of remission, 6-MP against placebo; negative: still in remission.
TREATED = [6, 6, 6, -6, 7, -9, 10, -10, -11, 13, 16, -17, -19, -20, 22, 23, -25, -32, -32, -34, -35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def group(weeks: list[int]) -> tuple[list[int], list[bool]]:
    return [abs(week) for week in weeks], [week > 0 for week in weeks]


def test_g5_the_leukaemia_trial_of_freireich() -> None:
    curve = kaplan_meier(*group(TREATED))
    assert curve.cost.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.share == pytest.approx([0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482], abs=5e-5)
    assert curve.num_at_risk.tolist() == [21, 17, 15, 12, 11, 7, 6]
    chi_squared, p_value = log_rank(*group(TREATED), *group(PLACEBO))
    assert chi_squared == pytest.approx(16.79294, abs=1e-5) and p_value == pytest.approx(4.17e-5, rel=0.01)


def test_g6_a_crash_and_a_budget() -> None:
    cost, observed = [30, 40, 50, 60], [True, False, True, False]
    curve = kaplan_meier(cost, observed)
    assert curve.share.tolist() == [0.75, 0.375]
    assert (curve.at(29), curve.at(30), curve.at(59)) == (1, 0.75, 0.375)


def test_no_trials_and_infinite_costs_are_rejected() -> None:
    with pytest.raises(ValueError, match="cost: expected at least one trial, got none"):
        kaplan_meier([], [])
    with pytest.raises(ValueError, match="cost: expected finite numbers, got inf"):
        kaplan_meier([np.inf], [True])


def trials(*rows: tuple[Status, bool]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"status": status.value, "reached": reached, "censored": not reached, "lower_s": 10.0 + index}
            for index, (status, reached) in enumerate(rows)
        ]
    )


@pytest.mark.parametrize("status", [Status.CAPPED, Status.STOPPED_EARLY])
def test_trials_stopped_because_of_their_accuracy_are_rejected(status: Status) -> None:
    with pytest.raises(UserError, match=f"1 of 2 trials are {status.value}: .*because of their own accuracy"):
        of_trials(trials((Status.REACHED, True), (status, False)))


def test_trials_stopped_after_they_reached_are_accepted() -> None:
    cost, observed = of_trials(trials((Status.CAPPED, True), (Status.CRASHED, False), (Status.BUDGET, False)))
    assert cost.tolist() == [10, 11, 12] and observed.tolist() == [True, False, False]
