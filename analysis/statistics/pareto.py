"""Which settings no other one beats in accuracy and cost at once, and how sure that is."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

NUM_RESAMPLES = 2_000


def is_on_front(accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other one beats: at least as accurate and as cheap, and better in one of both.

    Args: accuracy, cost [K]. Returns: [K]; equal points stay both, a NaN accuracy never does.
    """
    high, low = np.nan_to_num(np.asarray(accuracy, dtype=float), nan=-np.inf), np.asarray(cost, dtype=float)
    order = np.lexsort((-high, low))
    sorted_cost, sorted_accuracy = low[order], high[order]
    # The best at each cost stands first among those of that cost, and must beat all that are cheaper.
    first = np.searchsorted(sorted_cost, sorted_cost, side="left")
    best_so_far = np.concatenate([[-np.inf], np.maximum.accumulate(sorted_accuracy)])[first]
    is_best_of_its_cost = sorted_accuracy == sorted_accuracy[first]
    on_front = np.empty(len(low), dtype=bool)
    on_front[order] = is_best_of_its_cost & ((sorted_accuracy > best_so_far) | (first == 0))
    return np.asarray(on_front & np.isfinite(high))


def pareto_front(times: pd.DataFrame, *, generator: np.random.Generator) -> pd.DataFrame:
    """Configurations by mean best accuracy and mean cost, with how often resampled seeds put them on the front.

    The cost of a trial is what it took to its best accuracy. Only configurations count whose every trial ran to its
    end, for one that was stopped or diverged on some seeds would stand here with its luckiest. Seeds are resampled
    jointly for all configurations, as they were run.

    Args: times: rows of `analysis.findings.trial_times.trial_times`, of one phase; generator: draws the resamples.
    Returns: one row a configuration: `accuracy`, `cost_ref_s`, `is_on_front`, `inclusion` in [0, 1].
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
        is_drawn = ~np.isnan(means[0])  # a configuration whose seeds were not drawn says nothing
        included[is_drawn] += is_on_front(means[0][is_drawn], means[1][is_drawn])
        num_drawn += is_drawn
    return table.assign(
        accuracy=_mean(accuracy),
        cost_ref_s=_mean(cost),
        is_on_front=is_on_front(_mean(accuracy), _mean(cost)),
        inclusion=included / np.maximum(num_drawn, 1),
    )


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over seeds [K, S] -> [K], NaN where there is none."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1))
