"""When a curve reaches a target accuracy, and how much that depends on noise and on the grid of evaluations.

All functions take one trial's evaluations in training order: `cost` [E], totals since the first step in any unit
(the project decides on reference seconds), and `accuracy` [E], fractions or per cent as the target. A NaN accuracy
never reaches; a target that is never reached costs `math.inf`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdas.records import first_reached, reached

# An evaluation grid coarser than this part of the time to accuracy is worth a warning.
COARSE_GRID = 0.05


def time_to_accuracy(cost: Iterable[float], accuracy: Iterable[float], target: float) -> float:
    """Cost of the first evaluation that reaches the target, equality included.

    Args: cost [E]; accuracy [E]; target, in the unit of accuracy.
    Returns: a cost in the unit of `cost`, inf if never.
    Raises: ValueError: if the two differ in length.
    """
    return float(first_reached(cost, accuracy, target))


def times_to_accuracies(cost: ArrayLike, accuracy: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """`time_to_accuracy` for many targets at once.

    Args: cost [E]; accuracy [E]; targets [T]. Returns: costs [T], inf where never.
    """
    costs = np.asarray(cost, dtype=float)
    # NaN never reaches; what was reached once stays reached.
    best = np.maximum.accumulate(np.nan_to_num(np.asarray(accuracy, dtype=float), nan=-np.inf))
    first = np.searchsorted(best, np.asarray(targets, dtype=float), side="left")
    return np.append(costs, np.inf)[first]


def linear_interpolation(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Cost at which the straight line between the last miss and the first hit crosses the target.

    The first evaluation, or one after a NaN, has no such line before it and keeps its own cost.

    Returns: a cost never above `time_to_accuracy`, inf if never.
    """
    hit = first_hit(accuracy, target)
    if hit is None:
        return math.inf
    if hit == 0 or math.isnan(accuracy[hit - 1]):
        return float(cost[hit])
    part = (target - accuracy[hit - 1]) / (accuracy[hit] - accuracy[hit - 1])
    return float(cost[hit - 1] + part * (cost[hit] - cost[hit - 1]))


def two_in_a_row(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Cost of the first evaluation that reaches the target and whose next one reaches it too.

    The cost is that of the first of the two, as in `hold_to_end`, so that the columns differ only in how much noise
    they forgive. A hit at the very last evaluation has no second and does not count.
    """
    hits = [reached(value, target) for value in accuracy]
    pairs = [first and second for first, second in itertools.pairwise(hits)]
    return float(next(itertools.compress(cost, pairs), math.inf))


def hold_to_end(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Cost of the first evaluation from which every later one reaches the target; a hit at the last counts."""
    since = math.inf
    for one_cost, value in zip(reversed(cost), reversed(accuracy), strict=True):
        if not reached(value, target):
            break
        since = float(one_cost)
    return since


def grid_gap(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """How much of the time to accuracy lies between the hit and the evaluation before it.

    The target was crossed somewhere in that gap; above `COARSE_GRID` the grid, not the method, sets the last digits.

    Returns: a fraction in [0, 1], NaN if the target is never reached. Before the first evaluation stands cost 0.
    """
    hit = first_hit(accuracy, target)
    if hit is None:
        return math.nan
    before = cost[hit - 1] if hit else 0.0
    return float((cost[hit] - before) / cost[hit]) if cost[hit] else 0.0


def first_hit(accuracy: Sequence[float], target: float) -> int | None:
    """Position of the first evaluation that reaches the target, None if none does."""
    return next((index for index, value in enumerate(accuracy) if reached(value, target)), None)
