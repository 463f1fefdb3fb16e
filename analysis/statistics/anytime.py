"""What a search has found after how much work, and what one may expect of fewer tries."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from kdas.records import Status

Floats = NDArray[np.float64]


def anytime_curve(times: pd.DataFrame, num_seeds: int) -> pd.DataFrame:
    """The best configuration so far against all that was spent, losers included.

    A configuration counts when its last trial has ended; its value is the mean upper bound of its restricted times, so
    what was stopped is never taken for better than it is. Trials are counted in the order in which they ended.

    Args: times: rows of `analysis.findings.trial_times.trial_times` of one search; num_seeds: after how many trials a
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
    if not 1 <= num_tries <= len(ordered):
        raise ValueError(f"{num_tries} tries of {len(ordered)} values")
    return float(_expected_best(ordered, np.array([num_tries]))[0])


def expected_best_curve(values: ArrayLike) -> Floats:
    """`expected_best` for 1..N tries, [N]."""
    ordered = np.sort(np.asarray(values, dtype=float))
    return _expected_best(ordered, np.arange(1, len(ordered) + 1))


def _expected_best(ordered: Floats, num_tries: NDArray[np.int64]) -> Floats:
    total = len(ordered)
    # The i-th smallest is the minimum if the other tries are all larger; each weight follows from the one before.
    weight, expected = num_tries / total, np.zeros(len(num_tries))
    for rank, value in enumerate(ordered.tolist()):
        counts = weight > 0  # a weight of 0 with an infinite value is no contribution
        expected[counts] += weight[counts] * value
        if rank + 1 < total:
            weight = weight * np.maximum(total - rank - num_tries, 0) / (total - rank - 1)
    return expected
