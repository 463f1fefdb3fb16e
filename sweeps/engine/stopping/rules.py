"""Which trials of the search are stopped before their budget ends, all on the axis of cost.

A rule hears of every evaluation and says whether a trial should go on. Its state is a function of the curves on disk:
after a restart it hears them again, in any order.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Protocol

from kdas.records import Measure, Status, reached
from sweeps.engine.stopping.capping_bounds import Capping
from sweeps.file import blocks as settings
from sweeps.file.spec import SweepSpec


class EarlyStopping(Protocol):
    """What the agenda asks. `status` is what a stopped trial is recorded as."""

    status: Status

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        """A configuration of the search will be trained on these trials, one a seed."""
        ...

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        """An evaluation of a trial, in the order of its cost. Args: again: an earlier start has decided about it."""
        ...

    def finished(self, trial_id: str) -> None:
        """A trial has spent its budget or diverged."""
        ...

    def crashed(self, trial_id: str) -> None:
        """A trial has crashed: nobody knows what it would have done."""
        ...

    def stops(self, config_id: str, trial_id: str) -> bool:
        """Whether the trial should not go on."""
        ...


class NeverStop:
    """Every trial spends its budget."""

    status = Status.STOPPED_EARLY

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        pass

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        pass

    def finished(self, trial_id: str) -> None:
        pass

    def crashed(self, trial_id: str) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return False


class CapAtBest:
    """Capping on time to a target: stops whole configurations that are surely beaten, and no other.

    Args: target: the accuracy; budget_ref_s, keep: see `Capping`.
    """

    status = Status.CAPPED

    def __init__(self, target: float, budget_ref_s: float, keep: int) -> None:
        self._target = target
        self._capping = Capping(budget_ref_s, keep)
        self._has_reached: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        self._capping.add(config_id, trial_ids)

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        if trial_id in self._has_reached:
            return
        if reached(val_accuracy, self._target):
            self._has_reached.add(trial_id)
            self._capping.reached(trial_id, cost_ref_s)
        else:
            self._capping.unreached(trial_id, cost_ref_s)

    def finished(self, trial_id: str) -> None:
        if trial_id not in self._has_reached:
            self._capping.unreached(trial_id, math.inf)

    def crashed(self, trial_id: str) -> None:
        if trial_id not in self._has_reached:
            # Its configuration has no mean and cannot be chosen, so it must not stop those that can.
            self._capping.remove(trial_id)

    def stops(self, config_id: str, trial_id: str) -> bool:
        return self._capping.is_beaten(config_id)


class Asha:
    """Asynchronous successive halving (Li et al., 2020) with rungs on the cost axis.

    At each rung a trial goes on if its best accuracy is among the best 1 / `reduction_factor` of those that came there.

    Args: grace: the first rung, a share of the budget; each further one is `reduction_factor` times as far.
    """

    status = Status.STOPPED_EARLY

    def __init__(self, budget_ref_s: float, reduction_factor: float, grace: float) -> None:
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
        best = self._best[trial_id] = _better(self._best.get(trial_id, 0.0), val_accuracy)
        passed = self._passed.get(trial_id, 0)
        # A trial that goes on from a checkpoint comes to a rung a second time: it counts once.
        while passed < len(self._rungs) and cost_ref_s >= self._rungs[passed]:
            insort(self._accuracies[passed], best)
            if not again and not self._is_among_best(self._accuracies[passed], best):
                self._stopped.add(trial_id)
            passed += 1
        self._passed[trial_id] = passed

    def finished(self, trial_id: str) -> None:
        pass

    def crashed(self, trial_id: str) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return trial_id in self._stopped

    def _is_among_best(self, ascending: list[float], accuracy: float) -> bool:
        places = math.floor(len(ascending) / self._factor)
        return not places or len(ascending) - bisect_right(ascending, accuracy) < places


class MedianStopping:
    """Stops a trial whose best accuracy is under the median of the others' at the same cost (Golovin et al., 2017).

    Args: interval_ref_s: cost between two evaluations; grace: share of the budget that every trial may spend;
        at_least: how many others must have come so far.
    """

    status = Status.STOPPED_EARLY

    def __init__(self, budget_ref_s: float, interval_ref_s: float, grace: float, at_least: int) -> None:
        self._interval_s, self._grace_s, self._at_least = interval_ref_s, grace * budget_ref_s, at_least
        # Of every trial that came so far, its best accuracy, ascending; by the number of the evaluation.
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
        best = self._best[trial_id] = _better(self._best.get(trial_id, 0.0), val_accuracy)
        others = self._accuracies.setdefault(number, [])
        may_stop = cost_ref_s >= self._grace_s and not again
        if may_stop and len(others) >= self._at_least and best < _median(others):
            self._stopped.add(trial_id)
        insort(others, best)

    def finished(self, trial_id: str) -> None:
        pass

    def crashed(self, trial_id: str) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return trial_id in self._stopped


def rule_for(spec: SweepSpec, measure: Measure) -> EarlyStopping:
    """The rule that a sweep file names."""
    scheduler, budget_s = spec.scheduler, measure.tau_ref_s
    if isinstance(scheduler, settings.Capping):
        return CapAtBest(measure.target, budget_s, spec.confirm.top if spec.confirm else 1)
    if isinstance(scheduler, settings.Asha):
        return Asha(budget_s, scheduler.reduction_factor, scheduler.grace)
    if isinstance(scheduler, settings.Median):
        return MedianStopping(budget_s, budget_s / spec.evaluations, scheduler.grace, scheduler.at_least)
    return NeverStop()


def _better(best: float, accuracy: float) -> float:
    return best if math.isnan(accuracy) else max(best, accuracy)


def _median(ascending: Sequence[float]) -> float:
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2
