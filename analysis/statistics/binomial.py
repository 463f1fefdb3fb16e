"""The share of seeds that reach the target, with its interval."""

from __future__ import annotations

import math

from scipy import special

from analysis.statistics.interval import LEVEL


def share_interval(num_hits: int, num_tries: int) -> tuple[float, float]:
    """The 95% interval of a share, (NaN, NaN) without tries. It covers at least as often as it says.

    Source: Clopper & Pearson, "The use of confidence or fiducial limits", 1934.
    """
    if not num_tries:
        return math.nan, math.nan
    low, high = (
        special.betaincinv(num_hits, num_tries - num_hits + 1, LEVEL / 2) if num_hits else 0.0,
        special.betaincinv(num_hits + 1, num_tries - num_hits, 1 - LEVEL / 2) if num_hits < num_tries else 1.0,
    )
    return float(low), float(high)
