"""How seconds by the clock compare with reference seconds: trials alone on their device, and trials that shared it."""

from __future__ import annotations

import pandas as pd


def timing_check(curves: pd.DataFrame) -> pd.DataFrame:
    """Training time by the clock over the cost as run, at each trial's last evaluation.

    Prices are of a device that does nothing else, so a trial alone should come out near 1; what is above it was other
    work on the machine, or steps that took longer than when they were priced. Trials that shared a device come out by
    what sharing cost them.

    Args: curves: of `analysis.curves.load`.
    Returns: a row for each number of trials that may share a device, `num_cotenants` of them beside each:
        `num_trials`, and `slowdown` with the `lowest` and `highest` of a trial; medians; no rows where nothing ran.
    """
    last = curves.sort_values("step").groupby("trial_id").tail(1)
    # A trial that shared its device for a part of its time was not alone.
    last = last.assign(num_cotenants=last["trial_id"].map(curves.groupby("trial_id")["num_cotenants"].max()))
    last = last[(last["cost_as_run_s"] > 0) & (last["wall_s"] > 0)]
    slowdown = last["wall_s"] / last["cost_as_run_s"]
    grouped = slowdown.groupby(last["num_cotenants"])
    return pd.DataFrame(
        {
            "num_trials": grouped.size(),
            "slowdown": grouped.median(),
            "lowest": grouped.min(),
            "highest": grouped.max(),
        }
    ).reset_index()
