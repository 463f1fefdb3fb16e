"""When a curve reaches a target accuracy, and how much that depends on noise and on the evaluation grid.

All functions take one trial's evaluations in training order: `cost` [E], totals since the first step in any unit (the
project uses reference seconds), and `accuracy` [E] in the unit of the target. NaN never reaches a target. A target that
is never reached costs `math.inf`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdas.records import first_reached, reached

# The report warns if the gap before the hit is a larger part of the time to accuracy.
COARSE_GRID = 0.05


def time_to_accuracy(cost: Iterable[float], accuracy: Iterable[float], target: float) -> float:
    """Cost of the first evaluation that reaches the target, equality included.

    Args: cost [E]; accuracy [E]; target, in the unit of accuracy.
    Returns: a cost in the unit of `cost`, inf if never.
    Raises: ValueError: if cost and accuracy differ in length.
    """
    return float(first_reached(cost, accuracy, target))


def times_to_accuracies(cost: ArrayLike, accuracy: ArrayLike, targets: ArrayLike) -> NDArray[np.float64]:
    """`time_to_accuracy` for many targets at once.

    Args: cost [E]; accuracy [E]; targets [T]. Returns: costs [T], inf where never.
    """
    costs = np.asarray(cost, dtype=float)
    # NaN never reaches a target; a target that was reached stays reached.
    best = np.maximum.accumulate(np.nan_to_num(np.asarray(accuracy, dtype=float), nan=-np.inf))
    first = np.searchsorted(best, np.asarray(targets, dtype=float), side="left")
    return np.append(costs, np.inf)[first]


def linear_interpolation(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Cost at which the straight line between the last miss and the first hit crosses the target.

    If the hit is the first evaluation or follows a NaN, there is no line: the result is its own cost.

    Returns: a cost of at most `time_to_accuracy`, inf if never.
    """
    hit = first_hit(accuracy, target)
    if hit is None:
        return math.inf
    if hit == 0 or math.isnan(accuracy[hit - 1]):
        return float(cost[hit])
    part = (target - accuracy[hit - 1]) / (accuracy[hit] - accuracy[hit - 1])
    return float(cost[hit - 1] + part * (cost[hit] - cost[hit - 1]))


def two_in_a_row(cost: Sequence[float], accuracy: Sequence[float], target: float) -> float:
    """Cost of the first evaluation that reaches the target if the next one reaches it too.

    It is the cost of the first of the two, as in `hold_to_end`, so both columns differ only in how much noise they
    forgive. A hit at the last evaluation has no successor and does not count.
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
    """The gap between the hit and the evaluation before it (or cost 0), as a part of the time to accuracy.

    The curve crossed the target somewhere in that gap. Above `COARSE_GRID` the grid, not the method, decides the last
    digits.

    Returns: a fraction in [0, 1], NaN if the target is never reached.
    """
    hit = first_hit(accuracy, target)
    if hit is None:
        return math.nan
    before = cost[hit - 1] if hit else 0.0
    return float((cost[hit] - before) / cost[hit]) if cost[hit] else 0.0


def first_hit(accuracy: Sequence[float], target: float) -> int | None:
    """Position of the first evaluation that reaches the target, None if none does."""
    return next((index for index, value in enumerate(accuracy) if reached(value, target)), None)
