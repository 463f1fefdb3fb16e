"""Performance profiles: how often a method is within a factor of the best.

Source: Dolan & Moré, "Benchmarking optimization software with performance profiles", 2002; the score follows AlgoPerf
(Dahl et al., 2023), with the exact integral in place of a sum over a grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
# A method slower than this factor of the best is not competitive; the limit is AlgoPerf's.
LARGEST_RATIO = 4.0


def ratios_to_best(times: ArrayLike) -> Floats:
    """Each time divided by the best time of its cell.

    Args: times [M, C]: of method m in cell c, inf for a miss; NaN (not run) counts as a miss.
    Returns: ratios [M, C], at least 1; inf for a miss, and in cells where every method missed.
    """
    values = np.nan_to_num(np.asarray(times, dtype=float), nan=np.inf, posinf=np.inf)
    best = values.min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(np.isfinite(values), values / best, np.inf)
    # A best time of 0 gives 0/0 for the best method itself.
    return np.where(np.isnan(ratios), 1.0, ratios)


def profile(ratios: ArrayLike, factor: float) -> Floats:
    """The share of cells in which each method is within a factor of the best. Args: ratios [M, C]. Returns: [M]."""
    return np.asarray((np.asarray(ratios) <= factor).mean(axis=1), dtype=float)


def score(ratios: ArrayLike) -> Floats:
    """The mean height of each method's profile from factor 1 to `LARGEST_RATIO`: 1 means best in every cell.

    A cell with ratio r adds the part of that range above r, so the integral is exact.

    Args: ratios [M, C]. Returns: scores [M] in [0, 1].
    """
    inside = np.clip(LARGEST_RATIO - np.asarray(ratios, dtype=float), 0.0, LARGEST_RATIO - 1.0)
    return np.asarray(inside.mean(axis=1) / (LARGEST_RATIO - 1.0), dtype=float)
