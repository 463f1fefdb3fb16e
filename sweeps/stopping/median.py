"""The median rule."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kdas.records import Status
from sweeps.stopping.interface import STOPPING_RULES, StoppingContext, better


@STOPPING_RULES.register("median", source="Golovin et al., KDD 2017")
class MedianStopping:
    """Stops a trial whose best accuracy is below the median of the others at the same cost."""

    status = Status.STOPPED_EARLY
    only_for = None
    cost_shares = (0.4, 0.75, 1.0)

    def __init__(
        self,
        context: StoppingContext,
        *,
        grace: Annotated[
            float, Field(gt=0, lt=1, description="Fraction of the budget before which no trial is stopped.")
        ] = 0.2,
        at_least: Annotated[
            int, Field(ge=1, description="Trials that must have reached the same cost before one is stopped.")
        ] = 5,
    ) -> None:
        self._interval_s, self._grace_s = context.interval_ref_s, grace * context.budget_ref_s
        self._at_least = at_least
        # By number of the evaluation: the best accuracy of every trial that has got there, ascending.
        self._accuracies: dict[int, list[float]] = {}
        self._best: dict[str, float] = {}
        self._heard: dict[str, int] = {}
        self._stopped: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        pass

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        number = math.floor(cost_ref_s / self._interval_s + 1e-9)
        if number <= self._heard.get(trial_id, -1):
            return
        self._heard[trial_id] = number
        best = self._best[trial_id] = better(self._best.get(trial_id, 0.0), val_accuracy)
        others = self._accuracies.setdefault(number, [])
        may_stop = cost_ref_s >= self._grace_s and not again
        if may_stop and len(others) >= self._at_least and best < _median(others):
            self._stopped.add(trial_id)
        insort(others, best)

    def ended(self, trial_id: str, status: Status) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return trial_id in self._stopped


def _median(ascending: Sequence[float]) -> float:
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2
