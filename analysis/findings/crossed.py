"""Losses by samplers: how each combination that a sweep contains compares with its baseline."""

from __future__ import annotations

import pandas as pd

from analysis.findings.summary import deciding_phase
from kdas.records import Measure


def crossed(summary: pd.DataFrame, trials: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """The rows of the summary that decide, one for each pair of loss and sampler, those of the baseline first.

    Of several configurations of a pair, the fastest, or the baseline. A loss is named with its parameters only if
    another setting of it takes part.

    Args: trials: of `analysis.curves.load_trials`.
    Returns: `summary` with the columns `loss`, `sampler` and `is_baseline`; no rows with fewer than two losses or
        samplers.
    """
    # Tables of other programs may lack them.
    of_trials = trials.drop_duplicates("config_id").set_index("config_id").reindex(columns=["loss", "sampler.name"])
    decides = summary[summary["phase"] == deciding_phase(summary)]
    rows = decides.join(of_trials, on="config_id").rename(columns={"sampler.name": "sampler"})
    rows = rows.dropna(subset=["loss", "sampler"]).astype({"loss": str, "sampler": str})
    rows = rows.assign(is_baseline=rows["method"] == measure.baseline)
    # The summary is ordered: the fastest comes first.
    rows = rows.sort_values("is_baseline", ascending=False, kind="stable").drop_duplicates(["loss", "sampler"])
    names = rows["loss"].str.split(" ").str[0]
    settings = rows.groupby(names)["loss"].transform("nunique")
    rows = rows.assign(loss=names.where(settings == 1, rows["loss"]))
    if rows["loss"].nunique() < 2 or rows["sampler"].nunique() < 2:
        return rows.iloc[:0]
    # The baseline's loss and sampler come first.
    first = rows[rows["is_baseline"]]
    order = {name: [*first[name], *sorted({*rows[name]} - {*first[name]})] for name in ("loss", "sampler")}
    return rows.sort_values([*order], key=lambda column: column.map(order[str(column.name)].index)).reset_index(
        drop=True
    )
