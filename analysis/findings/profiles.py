"""Performance profiles of methods over several cells (data set, pair, target), as a table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.findings.summary import fastest
from analysis.findings.trial_times import median_times
from analysis.statistics.profiles import profile, ratios_to_best, score


def profile_table(cells: pd.DataFrame) -> pd.DataFrame:
    """Profiles of methods over cells, as a table.

    Args: cells: one row per method and cell: `method`, `cell`, `time` (inf for a miss).
    Returns: by method, the best score first: `score`, `share_best` (the profile at 1), `share_within_2`, and
        `num_cells` in which it ran.
    """
    times = cells.pivot(index="method", columns="cell", values="time")
    if times.empty:
        return pd.DataFrame(columns=["score", "share_best", "share_within_2", "num_cells"])
    ratios = ratios_to_best(times.to_numpy())
    table = pd.DataFrame(
        {
            "score": score(ratios),
            "share_best": profile(ratios, 1.0),
            "share_within_2": profile(ratios, 2.0),
            "num_cells": times.notna().sum(axis=1).to_numpy(),
        },
        index=times.index,
    )
    return table.sort_values(["score", "share_best"], ascending=False)


def cells_by_target(
    curves: pd.DataFrame, summary: pd.DataFrame, targets: Sequence[float], column: str = "val_accuracy"
) -> pd.DataFrame:
    """Several targets of one sweep as cells, with the median time of each method's fastest configuration.

    Args: curves: of `analysis.curves.load`; summary: of `analysis.findings.summary.summarize`; targets: in the unit of
        the accuracies; column: the deciding accuracy.
    Returns: one row per method and target: `method`, `cell`, `time` (inf if half of the seeds or more missed it).
    """
    rows = []
    for row in fastest(summary).to_dict("records"):
        medians = median_times(curves, row, column, targets)
        rows += [
            {"method": row["method"], "cell": f"{target:.4g}", "time": time}
            for target, time in zip(targets, medians, strict=True)
        ]
    return pd.DataFrame(rows, columns=["method", "cell", "time"])
