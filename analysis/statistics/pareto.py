"""Which points no other point beats in accuracy and cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def is_on_front(accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other point beats, that is, none is at least as good in both and better in one.

    Args: accuracy, cost [K]. Returns: [K]; of equal points both are on the front, NaN accuracy never is.
    """
    high, low = np.nan_to_num(np.asarray(accuracy, dtype=float), nan=-np.inf), np.asarray(cost, dtype=float)
    order = np.lexsort((-high, low))
    sorted_cost, sorted_accuracy = low[order], high[order]
    # Among equal costs the best accuracy comes first; it must also beat everything cheaper.
    first = np.searchsorted(sorted_cost, sorted_cost, side="left")
    best_so_far = np.concatenate([[-np.inf], np.maximum.accumulate(sorted_accuracy)])[first]
    is_best_of_its_cost = sorted_accuracy == sorted_accuracy[first]
    on_front = np.empty(len(low), dtype=bool)
    on_front[order] = is_best_of_its_cost & ((sorted_accuracy > best_so_far) | (first == 0))
    return np.asarray(on_front & np.isfinite(high))
