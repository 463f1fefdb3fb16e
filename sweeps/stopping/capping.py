"""Exact capping: which configurations can no longer be among the fastest, whatever their trials do next.

The rule and its proof are in docs/measuring.md. Bounds only tighten, so results may arrive late, twice or in any order:
that can delay a stop but never cause a wrong one. Only a crash loosens them, because its configuration leaves them. The
agenda then brings back what is no longer beaten.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kdas.records import COMPLETE_STATUSES, Status, reached
from sweeps.stopping.interface import STOPPING_RULES, StoppingContext


@dataclass
class TrialBounds:
    """Bounds on a trial's time to the target, restricted to the budget, in reference seconds."""

    lower: float
    upper: float

    @property
    def is_known(self) -> bool:
        """Whether the time is certain."""
        return self.lower == self.upper


class ConfigurationBounds:
    """The bounds of all configurations, each on the same number of seeds.

    Args: budget_s: reference seconds that restrict every time to the target; keep: how many of the fastest
        configurations must never be stopped.
    """

    def __init__(self, budget_s: float, keep: int = 1) -> None:
        self._budget_s, self._keep = budget_s, keep
        self._bounds: dict[str, dict[str, TrialBounds]] = {}
        self._configuration: dict[str, str] = {}
        # Sums over seeds of the upper bounds of all configurations, ascending.
        self._uppers: list[float] = []

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        """Add a configuration that will be trained. Adding it again changes nothing."""
        if config_id in self._bounds:
            return
        self._bounds[config_id] = {trial_id: TrialBounds(0.0, self._budget_s) for trial_id in trial_ids}
        self._configuration.update(dict.fromkeys(trial_ids, config_id))
        insort(self._uppers, self._upper(config_id))

    def unreached(self, trial_id: str, cost_s: float) -> None:
        """A trial was below the target at this cost. Args: cost_s: `inf` if it never reaches the target."""
        if trial_id in self._configuration:
            bounds = self._of(trial_id)
            if bounds.upper == self._budget_s:
                # A late report must not loosen the bounds.
                bounds.lower = max(bounds.lower, min(cost_s, self._budget_s))

    def reached(self, trial_id: str, time_s: float) -> None:
        """A trial reached the target at this cost."""
        if trial_id not in self._configuration:
            return
        config_id, bounds = self._configuration[trial_id], self._of(trial_id)
        del self._uppers[bisect_left(self._uppers, self._upper(config_id))]
        bounds.lower = bounds.upper = min(time_s, self._budget_s)
        insort(self._uppers, self._upper(config_id))

    def remove(self, trial_id: str) -> None:
        """Remove the configuration of a trial: it neither stops others nor is stopped."""
        config_id = self._configuration.get(trial_id)
        if config_id is None:
            return
        del self._uppers[bisect_left(self._uppers, self._upper(config_id))]
        for each in self._bounds.pop(config_id):
            del self._configuration[each]

    def is_beaten(self, config_id: str) -> bool:
        """Whether `keep` other configurations are certainly faster, by the mean over seeds."""
        if config_id not in self._bounds or len(self._uppers) < self._keep:
            return False
        # Correctly rounded sums instead of means, so that the comparison is exact.
        return math.fsum(each.lower for each in self._bounds[config_id].values()) > self._uppers[self._keep - 1]

    def configuration_of(self, trial_id: str) -> str | None:
        """The configuration of a trial; None if it is unknown or was removed."""
        return self._configuration.get(trial_id)

    def __iter__(self) -> Iterator[str]:
        """The ids of all configurations that were added and not removed."""
        return iter(self._bounds)

    def of(self, config_id: str) -> dict[str, TrialBounds]:
        """The bounds of each trial of a configuration, in the order of the seeds; empty if it is unknown."""
        return self._bounds.get(config_id, {})

    def _of(self, trial_id: str) -> TrialBounds:
        return self._bounds[self._configuration[trial_id]][trial_id]

    def _upper(self, config_id: str) -> float:
        return math.fsum(each.upper for each in self._bounds[config_id].values())


@STOPPING_RULES.register("capping", source="Hutter et al., JAIR 2009, ParamILS; here on whole configurations")
class Capping:
    """Stops the trials of settings that can no longer be the fastest. It never loses the winner."""

    status = Status.CAPPED
    only_for = "tta"
    # Capping saved a quarter in simulated sweeps. The saving depends on how much the settings of a sweep differ.
    cost_shares = (0.4, 0.75, 1.0)

    def __init__(self, context: StoppingContext) -> None:
        self._target = context.target
        self.bounds = ConfigurationBounds(context.budget_ref_s, context.keep)
        self._has_reached: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        self.bounds.add(config_id, trial_ids)

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        if trial_id in self._has_reached:
            return
        if reached(val_accuracy, self._target):
            self._has_reached.add(trial_id)
            self.bounds.reached(trial_id, cost_ref_s)
        else:
            self.bounds.unreached(trial_id, cost_ref_s)

    def ended(self, trial_id: str, status: Status) -> None:
        if trial_id in self._has_reached:
            return
        if status in COMPLETE_STATUSES:
            self.bounds.unreached(trial_id, math.inf)
        else:
            # It crashed, or a user stopped it: its configuration cannot be chosen, so it must not stop those that can.
            self.bounds.remove(trial_id)

    def stops(self, config_id: str, trial_id: str) -> bool:
        return self.bounds.is_beaten(config_id)
