"""The share of seeds that reach the target, with its interval."""

from __future__ import annotations

import math

from scipy import stats

from analysis.statistics.interval import LEVEL


def share_interval(num_hits: int, num_tries: int) -> tuple[float, float]:
    """The 95% interval of a share, (NaN, NaN) without tries. It covers at least as often as it says.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits", 1934.
    """
    if not num_tries:
        return math.nan, math.nan
    found = stats.binomtest(num_hits, num_tries).proportion_ci(1 - LEVEL, method="exact")
    return float(found.low), float(found.high)
