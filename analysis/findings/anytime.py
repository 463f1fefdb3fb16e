"""What the search had found after how much work."""

from __future__ import annotations

import numpy as np
import pandas as pd

from kdas.records import Status


def anytime_curve(times: pd.DataFrame, num_seeds: int) -> pd.DataFrame:
    """The best configuration so far against the total cost of the search, losers included.

    A configuration counts when its last trial has ended. Its value is the mean upper bound of its restricted times, so
    a stopped configuration never looks better than it is. Trials count in the order in which they ended.

    Args: times: rows of `analysis.findings.trial_times.trial_times` of one search; num_seeds: trials per configuration.
    Returns: one row per finished configuration: `spent_ref_s` so far, `value_s`, `best_s` so far, `config_id`.
    """
    ended = times[times["status"] != Status.RUNNING]
    if ended.empty:
        return pd.DataFrame(columns=["spent_ref_s", "value_s", "best_s", "config_id"])
    # A trial stopped before its first evaluation cost nothing and ended with the others of its configuration.
    with_others = ended.groupby("config_id")["ended_at"].transform("max")
    ended = ended.assign(ended_at=ended["ended_at"].fillna(with_others))
    ended = ended.sort_values("ended_at", kind="stable", na_position="last")
    ended = ended.assign(
        spent_ref_s=ended["last_cost_ref_s"].cumsum(), num_ended=ended.groupby("config_id").cumcount() + 1
    )
    last = ended[ended["num_ended"] == num_seeds]
    mean_upper_s = ended.groupby("config_id")["upper_s"].mean()
    value_s = last["config_id"].map(mean_upper_s).to_numpy(dtype=float)
    return pd.DataFrame(
        {
            "spent_ref_s": last["spent_ref_s"].to_numpy(dtype=float),
            "value_s": value_s,
            "best_s": np.minimum.accumulate(value_s),
            "config_id": last["config_id"].to_numpy(),
        }
    )
