"""Performance profiles: how often a method is within a factor of the best.

Source: Dolan & Moré, "Benchmarking optimization software with performance profiles", 2002; the score follows AlgoPerf
(Dahl et al., 2023), with the exact integral in place of a sum over a grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# Beyond this factor of the best nobody counts a method as competitive; AlgoPerf's choice.
LARGEST_RATIO = 4.0


def ratios_to_best(times: ArrayLike) -> Floats:
    """Each time over the best one of its cell.

    Args: times [M, C]: of method m in cell c, inf for a miss, NaN where it was not run, which counts as a miss.
    Returns: ratios [M, C], at least 1; inf for a miss, and in cells that nobody has passed.
    """
    values = np.nan_to_num(np.asarray(times, dtype=float), nan=np.inf, posinf=np.inf)
    best = values.min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.isfinite(values), values / best, np.inf)
    # The best time of a cell can be 0 only where nothing was paid; then it is the best all the same.
    return np.where(np.isnan(ratios), 1.0, ratios)


def profile(ratios: ArrayLike, factor: float) -> Floats:
    """The share of cells in which each method is within a factor of the best. Args: ratios [M, C]. Returns: [M]."""
    return np.asarray((np.asarray(ratios) <= factor).mean(axis=1), dtype=float)


def score(ratios: ArrayLike) -> Floats:
    """The mean height of each method's profile between the factors 1 and `LARGEST_RATIO`: 1 is the best everywhere.

    A cell in which a method has the ratio r adds the part of that range from r on, which makes the integral exact.

    Args: ratios [M, C]. Returns: scores [M] in [0, 1].
    """
    inside = np.clip(LARGEST_RATIO - np.asarray(ratios, dtype=float), 0.0, LARGEST_RATIO - 1.0)
    return np.asarray(inside.mean(axis=1) / (LARGEST_RATIO - 1.0), dtype=float)
