"""Asynchronous successive halving, with rungs on the axis of cost."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from kdas.records import Status
from sweeps.stopping.interface import STOPPING_RULES, StoppingContext, better


@STOPPING_RULES.register("asha", source="Li et al., MLSys 2020")
class Asha:
    """Keeps only the best trials at each of several increasing costs.

    At each rung a trial continues if its best accuracy is in the top 1 / `reduction_factor` of all trials that reached
    the rung. The first rung is at `grace` times the budget, each further one at `reduction_factor` times the cost.
    """

    status = Status.STOPPED_EARLY
    only_for = None
    cost_shares = (0.4, 0.75, 1.0)

    def __init__(
        self,
        context: StoppingContext,
        *,
        reduction_factor: Annotated[
            int, Field(ge=2, description="One in this many trials continues at each cost.")
        ] = 3,
        grace: Annotated[
            float, Field(gt=0, lt=1, description="Fraction of the budget before which no trial is stopped.")
        ] = 0.1,
    ) -> None:
        budget_ref_s = context.budget_ref_s
        self._factor = reduction_factor
        first = budget_ref_s * grace
        count = 1 + math.floor(math.log(1 / grace, reduction_factor) + 1e-9)
        self._rungs = [first * reduction_factor**number for number in range(count)]
        self._rungs = [rung for rung in self._rungs if rung < budget_ref_s]
        self._accuracies: list[list[float]] = [[] for _ in self._rungs]
        self._best: dict[str, float] = {}
        self._passed: dict[str, int] = {}
        self._stopped: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        pass

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        best = self._best[trial_id] = better(self._best.get(trial_id, 0.0), val_accuracy)
        passed = self._passed.get(trial_id, 0)
        # A trial that resumes from a checkpoint may reach a rung twice, but counts once.
        while passed < len(self._rungs) and cost_ref_s >= self._rungs[passed]:
            insort(self._accuracies[passed], best)
            if not again and not self._is_among_best(self._accuracies[passed], best):
                self._stopped.add(trial_id)
            passed += 1
        self._passed[trial_id] = passed

    def ended(self, trial_id: str, status: Status) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return trial_id in self._stopped

    def _is_among_best(self, ascending: list[float], accuracy: float) -> bool:
        places = math.floor(len(ascending) / self._factor)
        return not places or len(ascending) - bisect_right(ascending, accuracy) < places
