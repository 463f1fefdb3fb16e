"""Which configurations no other one beats in accuracy and cost, and how certain that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.pareto import is_on_front

NUM_RESAMPLES = 2_000


def pareto_front(times: pd.DataFrame, *, generator: np.random.Generator) -> pd.DataFrame:
    """Configurations by mean best accuracy and mean cost, and how often resampled seeds keep them on the front.

    The cost of a trial is the cost at its best accuracy. A configuration counts only if all of its trials ran to their
    end; otherwise only its luckiest seeds would count. Seeds are resampled jointly for all configurations.

    Args: times: rows of `analysis.findings.trial_times.trial_times`, of one phase; generator: draws the resamples.
    Returns: one row per configuration: `accuracy`, `cost_ref_s`, `is_on_front`, `inclusion` in [0, 1].
    """
    keys = ["phase", "method", "configuration", "config_id"]
    is_known = times["is_whole"].astype(bool) & times["best_accuracy"].notna()
    whole = times[is_known.groupby(times["config_id"]).transform("all").astype(bool)] if len(times) else times
    by_seed = {
        name: whole.pivot_table(index=keys, columns="seed", values=name, aggfunc="last")
        for name in ("best_accuracy", "best_accuracy_at_s")
    }
    accuracy, cost = by_seed["best_accuracy"].to_numpy(dtype=float), by_seed["best_accuracy_at_s"].to_numpy(dtype=float)
    table = by_seed["best_accuracy"].index.to_frame(index=False)
    if table.empty:
        return table.assign(accuracy=[], cost_ref_s=[], is_on_front=[], inclusion=[])
    draws = generator.integers(0, accuracy.shape[1], size=(NUM_RESAMPLES, accuracy.shape[1]))
    included = np.zeros(len(table))
    num_drawn = np.zeros(len(table))
    for draw in draws:
        means = _mean(accuracy[:, draw]), _mean(cost[:, draw])
        is_drawn = ~np.isnan(means[0])  # a configuration none of whose seeds were drawn
        included[is_drawn] += is_on_front(means[0][is_drawn], means[1][is_drawn])
        num_drawn += is_drawn
    return table.assign(
        accuracy=_mean(accuracy),
        cost_ref_s=_mean(cost),
        is_on_front=is_on_front(_mean(accuracy), _mean(cost)),
        inclusion=included / np.maximum(num_drawn, 1),
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over seeds [K, S] -> [K], NaN if no seed is known."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1))
