"""What a search has found after how much work, and what one may expect of fewer tries."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kdas.records import Status

Floats = NDArray[np.float64]


def anytime_curve(times: pd.DataFrame, num_seeds: int) -> pd.DataFrame:
    """The best configuration so far against all that was spent, losers included.

    A configuration counts when its last trial has ended; its value is the mean upper bound of its restricted times, so
    what was stopped is never taken for better than it is. Trials are counted in the order in which they ended.

    Args: times: rows of `analysis.trial_times.trial_times` of one search; num_seeds: after how many trials a
        configuration counts.
    Returns: one row a configuration that ended: `spent_ref_s` until then, `value_s`, `best_s` so far, `config_id`.
    """
    ended = times[times["status"] != Status.RUNNING]
    if ended.empty:
        return pd.DataFrame(columns=["spent_ref_s", "value_s", "best_s", "config_id"])
    # A trial that was dropped before its first evaluation has cost nothing, and ended with the others of its kind.
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


def expected_best(values: ArrayLike, num_tries: int) -> float:
    """The expected minimum of `num_tries` of the values [N], drawn without putting back.

    That form is unbiased for new draws from where the values came from; with putting back it is not.

    Raises: ValueError: unless 1 <= num_tries <= N.
    Source: Tang et al., "Showing your work doesn't always work", ACL 2020.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    total = len(ordered)
    if not 1 <= num_tries <= total:
        raise ValueError(f"{num_tries} tries of {total} values")
    # The i-th smallest is the minimum if the other tries are all larger; each weight follows from the one before.
    weight, expected = num_tries / total, []
    for rank, value in enumerate(ordered.tolist()):
        if weight:  # a weight of 0 with an infinite value is no contribution
            expected.append(weight * value)
        weight *= (total - rank - num_tries) / (total - rank - 1) if total - rank > 1 else 0.0
    return math.fsum(expected)


def expected_best_curve(values: Sequence[float]) -> Floats:
    """`expected_best` for 1..N tries, [N]."""
    return np.array([expected_best(values, num_tries) for num_tries in range(1, len(values) + 1)])
