"""The result of a proposal's trials, for the search and the confirmation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from kdas.records import COMPLETE_STATUSES, Measure, Status
from sweeps.engine.objective import Objective, mean_best_accuracy
from sweeps.record.measure import time_to_target
from sweeps.record.trial import TrialFolder


@dataclass(frozen=True)
class Outcome:
    """`values`: one for each direction. `restricted_s`: mean time to the target, a miss counting as the budget.
    `best_accuracy`: mean over seeds. `is_reached`: on every seed. `is_known`: no trial was stopped before its value was
    certain."""

    values: list[float]
    restricted_s: float
    best_accuracy: float
    is_reached: bool
    is_known: bool


def outcome_of(trials: Sequence[TrialFolder], objective: Objective, measure: Measure) -> Outcome | None:
    """The result of a configuration; None if a trial crashed before its value was certain: there is no mean then."""
    statuses = [trial.status for trial in trials]
    curves = [trial.rows() for trial in trials]
    times = [time_to_target(rows, measure.target) for rows in curves]
    # Once the target is reached, its time is certain, whatever happens later.
    is_known = [
        status in COMPLETE_STATUSES or (objective.name == "tta" and math.isfinite(time))
        for status, time in zip(statuses, times, strict=True)
    ]
    if any(status is Status.CRASHED and not known for status, known in zip(statuses, is_known, strict=True)):
        return None
    return Outcome(
        values=objective.values(curves, statuses, measure),
        restricted_s=statistics.fmean(min(time, measure.budget_ref_s) for time in times),
        best_accuracy=mean_best_accuracy(curves),
        is_reached=all(map(math.isfinite, times)),
        is_known=all(is_known),
    )
