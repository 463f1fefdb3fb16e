"""What to expect from fewer tries of a search."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def expected_best_curve(values: ArrayLike) -> Floats:
    """The expected minimum of 1..N of the values [N], drawn without replacement; returns [N].

    Without replacement it is unbiased for new draws from the same distribution; with replacement it is not.

    Source: Tang et al., "Showing your work doesn't always work", ACL 2020.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    total, num_tries = len(ordered), np.arange(1, len(ordered) + 1)
    # The i-th smallest is the minimum if all other tries are larger; each weight follows from the previous one.
    weight, expected = num_tries / total, np.zeros(total)
    for rank, value in enumerate(ordered.tolist()):
        counts = weight > 0  # a weight of 0 times infinity would be NaN
        expected[counts] += weight[counts] * value
        if rank + 1 < total:
            weight = weight * np.maximum(total - rank - num_tries, 0) / (total - rank - 1)
    return expected
