"""Trials as the input of a survival curve, if one is valid for them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kdas.errors import UserError
from kdas.records import STOPPED_STATUSES


def of_trials(times: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Costs [N], and whether the trial reached the target there [N], from rows of `analysis.findings.trial_times`.

    A trial that ran to its end or diverged without reaching the target counts as seen up to its budget.

    Raises: UserError: if a trial was stopped because of its own accuracy before it reached the target.
    """
    stopped = _stopped(times)
    if len(stopped):
        statuses = ", ".join(sorted(set(stopped["status"])))
        raise UserError(
            f"{len(stopped)} of {len(times)} trials are {statuses}: stopped because of their own accuracy, so a "
            "Kaplan-Meier curve is not valid. Use the bounds of analysis.statistics.censoring, or trials of phase "
            "confirm."
        )
    return times["lower_s"].to_numpy(dtype=float), (~times["censored"].astype(bool)).to_numpy()


def allows_survival(times: pd.DataFrame) -> bool:
    """Whether `of_trials` accepts these trials."""
    return _stopped(times).empty


def _stopped(times: pd.DataFrame) -> pd.DataFrame:
    return times[times["status"].isin(STOPPED_STATUSES) & ~times["reached"].astype(bool)]
