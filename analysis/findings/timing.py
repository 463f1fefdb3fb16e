"""Wall seconds compared with reference seconds, for trials alone on their device and for trials that shared it."""

from __future__ import annotations

import pandas as pd


def timing_check(curves: pd.DataFrame) -> pd.DataFrame:
    """Wall seconds of training divided by the cost as run, at each trial's last evaluation.

    Prices are measured on an idle device, so a trial alone should be near 1. Higher values mean other work on the
    machine, or steps slower than during calibration. For trials that shared a device they show the cost of sharing.

    Args: curves: of `analysis.curves.load`.
    Returns: one row per `num_cotenants`: `num_trials`, the median `slowdown`, and the `lowest` and `highest` one; no
        rows if nothing ran.
    """
    last = _slowdowns(curves)
    grouped = last["slowdown"].groupby(last["num_cotenants"])
    return pd.DataFrame(
        {
            "num_trials": grouped.size(),
            "slowdown": grouped.median(),
            "lowest": grouped.min(),
            "highest": grouped.max(),
        }
    ).reset_index()


def slowdown_by_method(curves: pd.DataFrame) -> pd.Series:
    """The median slowdown of each method's trials that were alone on their device: equal, if its prices are right."""
    last = _slowdowns(curves)
    alone = last[last["num_cotenants"] == 0]
    return alone.groupby("method")["slowdown"].median()


def _slowdowns(curves: pd.DataFrame) -> pd.DataFrame:
    """Each trial's last evaluation, with its `slowdown` and the most trials it ever shared a device with."""
    last = curves.sort_values("step").groupby("trial_id").tail(1)
    # A trial that shared its device for part of its time was not alone.
    last = last.assign(num_cotenants=last["trial_id"].map(curves.groupby("trial_id")["num_cotenants"].max()))
    last = last[(last["cost_as_run_s"] > 0) & (last["wall_s"] > 0)]
    return last.assign(slowdown=last["wall_s"] / last["cost_as_run_s"])
