"""What must hold for every sweep: the order of rows, copies and restarts change nothing, and bounds hold the truth."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.curves import load
from analysis.findings.trial_times import trial_times
from analysis.time_to_accuracy import time_to_accuracy, times_to_accuracies
from kdas.records import CURVE_COLUMNS, Measure, Status

MEASURE = Measure("made-up", 0.8, "", 100.0, "plain_kd", "validation", "c", "made up", (0,), 1)
curves_of_trials = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=12), min_size=1, max_size=4)


def tables(accuracies: list[list[float]], unit: float = 1.0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves evaluated every 10 units of cost, and trials that ran to their end."""
    rows, trials = [], []
    for trial, accuracy in enumerate(accuracies):
        common = {"sweep": "s", "method": "plain_kd", "phase": "search", "trial_id": f"t{trial}", "config_id": "c"}
        for step, value in enumerate(accuracy, start=1):
            rows.append(
                dict.fromkeys(CURVE_COLUMNS, 0)
                | common
                | dict.fromkeys(("dataset", "pair", "calibration_id", "device"), "x")
                | {"seed": trial, "step": step, "cost_ref_s": 10.0 * unit * step, "val_accuracy": value}
                | {"cost_as_run_s": 5.0 * unit * step, "wall_s": 6.0 * unit * step, "test_accuracy": value}
            )
        trials.append(
            common
            | {"seed": trial, "status": Status.BUDGET.value, "configuration": "", "error": "", "ended_at": 0.0}
            | {"last_cost_ref_s": 10.0 * unit * len(accuracy), "wall_s": 1.0}
        )
    return pd.DataFrame(rows)[list(CURVE_COLUMNS)], pd.DataFrame(trials)


@settings(max_examples=40)
@given(curves_of_trials, st.integers(0, 2**32 - 1), st.data())
def test_row_order_copies_and_restarts_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, accuracies: list[list[float]], seed: int, data: st.DataObject
) -> None:
    curves, trials = tables(accuracies)
    first, second = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")
    curves.to_parquet(first / "curves.parquet")
    # Each trial is restored at some step: what came after it was written before, with other numbers.
    restarted = []
    for _, trial in curves.groupby("trial_id"):
        since = data.draw(st.integers(1, len(trial)))
        restarted += [trial[trial["step"] >= since].assign(val_accuracy=0.123), trial, trial[trial["step"] < since]]
    # Rows of one step keep their order, which says which of them was written last; all else may be shuffled.
    mixed = pd.concat(restarted, ignore_index=True)
    order = np.random.default_rng(seed).permutation(mixed["step"].max() + 1)
    mixed = mixed.sort_values("step", key=lambda steps: pd.Series(order)[steps.to_numpy()].to_numpy(), kind="stable")
    mixed.to_parquet(second / "curves.parquet")
    pd.testing.assert_frame_equal(load(second), load(first))
    pd.testing.assert_frame_equal(trial_times(load(second), trials, MEASURE), trial_times(load(first), trials, MEASURE))


@given(curves_of_trials, st.data())
def test_bounds_hold_the_truth_wherever_a_trial_is_cut(accuracies: list[list[float]], data: st.DataObject) -> None:
    curves, trials = tables(accuracies)
    truth = trial_times(curves, trials, MEASURE)
    assert (truth["lower_s"] == truth["upper_s"]).all()
    kept = {f"t{trial}": data.draw(st.integers(0, len(accuracy))) for trial, accuracy in enumerate(accuracies)}
    cut = curves[curves["step"] <= curves["trial_id"].map(kept)]
    statuses = [
        data.draw(st.sampled_from([Status.CRASHED, Status.CAPPED, Status.STOPPED_EARLY, Status.RUNNING]))
        if kept[trial] < len(accuracies[index])
        else Status.BUDGET
        for index, trial in enumerate(trials["trial_id"])
    ]
    last = [10.0 * kept[trial] for trial in trials["trial_id"]]
    found = trial_times(cut, trials.assign(status=[str(each) for each in statuses], last_cost_ref_s=last), MEASURE)
    assert (found["lower_s"] <= truth["lower_s"]).all() and (truth["upper_s"] <= found["upper_s"]).all()


@given(curves_of_trials, st.sampled_from([0.25, 2.0, 64.0]))
def test_another_unit_of_cost_scales_every_time(accuracies: list[list[float]], unit: float) -> None:
    one, other = tables(accuracies), tables(accuracies, unit)
    scaled = Measure(**{**vars(MEASURE), "budget_ref_s": MEASURE.budget_ref_s * unit})
    times, in_unit = trial_times(*one, MEASURE), trial_times(*other, scaled)
    for column in ("tta_ref_s", "tta_linear_s", "tta_two_in_a_row_s", "tta_hold_to_end_s", "lower_s", "upper_s"):
        assert in_unit[column].tolist() == pytest.approx((times[column] * unit).tolist(), nan_ok=True)
    assert in_unit["grid_gap"].tolist() == pytest.approx(times["grid_gap"].tolist(), nan_ok=True)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=20), st.lists(st.floats(0, 1), max_size=9))
def test_many_targets_at_once_give_what_each_gives_alone(accuracy: list[float], targets: list[float]) -> None:
    cost = [10.0 * step for step in range(1, len(accuracy) + 1)]
    alone: list[Any] = [time_to_accuracy(cost, accuracy, target) for target in targets]
    assert times_to_accuracies(cost, accuracy, targets).tolist() == alone
