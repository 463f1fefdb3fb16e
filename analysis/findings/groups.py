"""The trials of each configuration, as plain arrays: a frame for each takes ten times as long for thousands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.statistics.censoring import Bounds
from kdas.records import Status

# Some rows of `analysis.findings.trial_times.trial_times`, by column.
Group = Mapping[str, NDArray[Any]]
# Bounds by seed.
Trials = Mapping[int, Bounds]


def groups_of(times: pd.DataFrame, keys: Sequence[str]) -> dict[tuple[Any, ...], Group]:
    """The rows of each combination of `keys`, in the order in which they first occur."""
    columns = {str(name): times[name].to_numpy() for name in times.columns}
    return {
        cast(tuple[Any, ...], key): {name: values[where] for name, values in columns.items()}
        for key, where in times.groupby(list(keys), sort=False).indices.items()
    }


def bounds_of(group: Group) -> list[Bounds]:
    """The bounds of each trial."""
    columns = (group[name].tolist() for name in Bounds.__dataclass_fields__)
    return [Bounds(*values) for values in zip(*columns, strict=True)]


def trials_by_seed(group: Group) -> Trials:
    """Bounds by seed of the trials that have ended; a running trial has not missed yet."""
    has_ended = (group["status"] != Status.RUNNING) | group["reached"].astype(bool)
    ended = {name: group[name][has_ended] for name in ("seed", *Bounds.__dataclass_fields__)}
    return dict(zip(ended["seed"].tolist(), bounds_of(ended), strict=True))


def nobody(times: pd.DataFrame) -> Group:
    """No rows."""
    return {str(name): np.empty(0, object) for name in times.columns}
