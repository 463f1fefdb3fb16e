"""One row per trial: when it reached the target, its cost by every count, and the bounds that a miss leaves."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis.statistics.censoring import bounds, is_within
from analysis.time_to_accuracy import (
    first_hit,
    grid_gap,
    hold_to_end,
    linear_interpolation,
    time_to_accuracy,
    times_to_accuracies,
    two_in_a_row,
)
from analysis.wording import Row
from kdas.records import COMPLETE_STATUSES, PRICE_ROUND, WITHOUT_TEACHER, Measure, Status

_IDENTITY = ["phase", "method", "configuration", "config_id", "trial_id", "seed", "status", "error"]
# Costs at the hit: column of the curve table -> column here.
INDICATORS = {
    "cost_ref_s": "ref_s_at_hit",
    "cost_as_run_s": "as_run_s_at_hit",
    "wall_s": "wall_s_at_hit",
    "flops": "flops_at_hit",
    "samples_trained": "samples_trained_at_hit",
    "samples_scored": "samples_scored_at_hit",
    "teacher_forwards": "teacher_forwards_at_hit",
    WITHOUT_TEACHER: "without_teacher_s_at_hit",
}
_NEEDED = ("val_accuracy", "test_accuracy", "num_cotenants", *INDICATORS)
# One trial's evaluations in training order, by column of the curve table.
_Curve = dict[str, NDArray[Any]]


def trial_times(curves: pd.DataFrame, trials: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Times to accuracy, restricted times and indicators of every trial in the trial table.

    A trial without evaluations (it crashed before the first one) has an infinite time, and its lower bound comes from
    the trial table. Costs are reference seconds.

    Returns: a frame, one row per trial in the order of `trials`: its identity, `tta_ref_s` and its sensitivities (NaN
        if the trial ended before they were known), `tta_at_least_s` (the last cost of such a trial), `lower_s` and
        `upper_s` of its restricted time, `reached` (within the budget), `censored`, `gap_s` before the hit, accuracies
        as fractions, the indicators, and `price_rounds`.
    """
    # Plain arrays: one frame per trial takes a hundred times as long for thousands of trials.
    columns = {name: curves[name].to_numpy() if name in curves else np.full(len(curves), np.nan) for name in _NEEDED}
    positions = curves.groupby("trial_id", sort=False).indices
    nowhere = np.empty(0, np.int64)
    rows = []
    for trial in trials.to_dict("records"):
        where = positions.get(trial["trial_id"], nowhere)
        curve = {name: values[where] for name, values in columns.items()}
        rows.append({name: trial[name] for name in _IDENTITY} | _times(curve, trial, measure))
        rows[-1]["price_rounds"] = _price_rounds(trial)
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=_columns(measure))


def _times(curve: _Curve, trial: Row, measure: Measure) -> dict[str, object]:
    cost = curve["cost_ref_s"].tolist()
    accuracy = curve[measure.deciding_column].tolist()
    tta_ref_s = time_to_accuracy(cost, accuracy, measure.target)
    last_cost_ref_s = cost[-1] if cost else _or_zero(trial["last_cost_ref_s"])
    gap = grid_gap(cost, accuracy, measure.target)
    restricted = bounds(
        Status(str(trial["status"])), tta_ref_s, last_cost_ref_s, measure.budget_ref_s, gap_s=gap * tta_ref_s
    )
    hit = first_hit(accuracy, measure.target) if restricted.reached else None
    if not restricted.reached:
        tta_ref_s = math.inf
    # Whether a trial that ended early would have held the target is unknown.
    is_open = restricted.lower_s < restricted.upper_s
    ended_early = Status(str(trial["status"])) not in COMPLETE_STATUSES
    is_whole = not ended_early and trial["status"] != Status.DIVERGED
    pair_s = _within(two_in_a_row(cost, accuracy, measure.target), measure.budget_ref_s)
    return {
        "tta_ref_s": tta_ref_s,
        "tta_at_least_s": last_cost_ref_s if is_open else tta_ref_s,
        "tta_linear_s": math.nan
        if is_open
        else _within(linear_interpolation(cost, accuracy, measure.target), measure.budget_ref_s),
        "tta_two_in_a_row_s": math.nan if ended_early and math.isinf(pair_s) else pair_s,
        "tta_hold_to_end_s": math.nan
        if ended_early
        else _within(hold_to_end(cost, accuracy, measure.target), measure.budget_ref_s),
        "grid_gap": gap if restricted.reached else math.nan,
        "gap_s": restricted.gap_s,
        "lower_s": restricted.lower_s,
        "upper_s": restricted.upper_s,
        "reached": restricted.reached,
        "censored": restricted.censored,
        "last_cost_ref_s": last_cost_ref_s,
        **_best(cost, accuracy),
        "is_whole": is_whole,
        "final_test_accuracy": float(curve["test_accuracy"][-1]) if is_whole and cost else math.nan,
        "num_nan": int(np.isnan(curve[measure.deciding_column]).sum()),
        "epochs": _or_nan(trial.get("epochs")),
        "ended_at": trial["ended_at"],
        "wall_s": trial["wall_s"],
        "num_evaluations": len(cost),
        "max_cotenants": int(curve["num_cotenants"].max()) if cost else 0,
        **_at_hit(curve, hit),
    }


def _best(cost: list[float], accuracy: list[float]) -> dict[str, float]:
    """The highest accuracy and the lowest cost at which it occurred."""
    known = [(value, -paid) for paid, value in zip(cost, accuracy, strict=True) if not math.isnan(value)]
    best, paid = max(known, default=(math.nan, math.nan))
    return {"best_accuracy": best, "best_accuracy_at_s": -paid}


def _at_hit(curve: _Curve, hit: int | None) -> dict[str, float]:
    """Test accuracy and indicators at the first evaluation that reached the target, NaN if none did."""
    if hit is None:
        return dict.fromkeys(["test_accuracy_at_hit", *INDICATORS.values()], math.nan)
    at_hit = {"test_accuracy_at_hit": float(curve["test_accuracy"][hit])}
    at_hit |= {name: float(curve[column][hit]) for column, name in INDICATORS.items()}
    # On a shared device, wall seconds also measure other trials.
    if curve["num_cotenants"][: hit + 1].any():
        at_hit["wall_s_at_hit"] = math.nan
    return at_hit


def _within(time_s: float, budget_ref_s: float) -> float:
    """A time beyond the budget is a miss."""
    return time_s if is_within(time_s, budget_ref_s) else math.inf


def _price_rounds(trial: Row) -> tuple[float, ...]:
    """The trial's cost by each round of prices, as a part of its cost; empty if any is not known."""
    rounds = [trial[name] for name in trial if str(name).startswith(PRICE_ROUND)]
    return tuple(map(float, rounds)) if all(0 < each < math.inf for each in rounds) else ()


def _or_nan(value: object) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _or_zero(cost_s: object) -> float:
    return float(cost_s) if isinstance(cost_s, int | float) and math.isfinite(cost_s) else 0.0


def median_times(curves: pd.DataFrame, row: Row, column: str, targets: ArrayLike) -> NDArray[np.float64]:
    """Median over seeds of one configuration's times to many targets, [T]; inf if half of the seeds or more missed.

    Args: row: of the summary table, names configuration and phase; column: the deciding accuracy.
    """
    own = of_configuration(curves, row)
    times = [times_to_accuracies(trial["cost_ref_s"], trial[column], targets) for _, trial in own.groupby("trial_id")]
    return np.median(np.stack(times), axis=0) if times else np.full(np.shape(targets), np.inf)


def of_configuration(table: pd.DataFrame, row: Row) -> pd.DataFrame:
    """The rows of a table with the configuration and phase of a summary row."""
    own: pd.DataFrame = table[(table["config_id"] == row["config_id"]) & (table["phase"] == row["phase"])]
    return own


def _columns(measure: Measure) -> list[str]:
    """The columns of the table, for a sweep without trials."""
    nobody: Row = {"status": Status.RUNNING.value, "last_cost_ref_s": 0.0, "wall_s": 0.0, "ended_at": 0.0}
    nothing: _Curve = {name: np.empty(0) for name in _NEEDED}
    return [*_IDENTITY, *_times(nothing, nobody, measure), "price_rounds"]
