"""What the seeds that have run say about those that have not: log time = configuration + seed + noise.

The noise has one variance, estimated from all configurations with at least two known times. So the times of a
configuration on its open seeds follow from those that are known, with Student's t. docs/measuring.md has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from sweeps.stopping.capping import TrialBounds

Floats = NDArray[np.float64]
# Degrees of freedom of the noise before anything is predicted. Four configurations on three seeds have six.
LEAST_FREEDOM = 5


class Fit:
    """The model fitted to log times [configurations, seeds], NaN where unknown.

    `effects`: of each seed; `deviation` and `freedom`: of the noise. Args: least_deviation: times are rounded, so equal
    ones do not mean that there is no noise.
    """

    def __init__(self, log_s: Floats, least_deviation: float) -> None:
        log_s = log_s[np.isfinite(log_s).sum(axis=1) > 1]
        is_known = np.isfinite(log_s)
        counts = np.maximum(1, is_known.sum(axis=1, keepdims=True))
        means = np.where(is_known, log_s, 0.0).sum(axis=1, keepdims=True) / counts
        centred = np.where(is_known, log_s - means, 0.0)
        # The normal equations of the seeds' effects, once those of the configurations are eliminated.
        normal = np.diag(is_known.sum(axis=0)) - (is_known / counts).T @ is_known
        self.effects: Floats
        self.effects, _, rank, _ = np.linalg.lstsq(normal, centred.sum(axis=0), rcond=1e-9)
        self.num_configurations = len(log_s)
        self.freedom = int(is_known.sum()) - len(log_s) - int(rank)
        self.has_every_seed = bool(is_known.any(axis=0).all())
        squares = float((centred**2).sum() - self.effects @ centred.sum(axis=0))
        self.deviation = max(least_deviation, math.sqrt(max(0.0, squares) / max(1, self.freedom)))


class SeedModel:
    """The known times of all configurations, and what follows from them for the others.

    Args: budget_s: restricts every time; interval_s: between two evaluations.
    """

    def __init__(self, budget_s: float, interval_s: float) -> None:
        self._budget_s, self._interval_s = budget_s, interval_s
        # One restricted time for each seed, None where it is not known.
        self._times: dict[str, tuple[float | None, ...]] = {}

    def learn(self, config_id: str, bounds: Sequence[TrialBounds]) -> None:
        """Take over the bounds of a configuration's trials, one for each seed; none if it cannot be chosen."""
        times = tuple(each.lower if each.is_known else None for each in bounds)
        if times == self._times.get(config_id, ()):
            return
        if times:
            self._times[config_id] = times
        else:
            del self._times[config_id]
        for name in ("_fit", "_means_s"):
            self.__dict__.pop(name, None)

    def incumbent_s(self, keep: int) -> float | None:
        """The mean time of the `keep`-th best complete configuration; None if too little is known to compare with."""
        fit = self._fit
        is_enough = fit is not None and fit.freedom >= LEAST_FREEDOM and fit.has_every_seed
        return self._means_s[keep - 1] if is_enough and len(self._means_s) >= keep else None

    def chance_below(self, mean_s: float, bounds: Sequence[TrialBounds]) -> float:
        """The probability that the mean over all seeds comes out below `mean_s`. Needs `incumbent_s` not to be None.

        A trial that runs takes at least what it has spent. So it counts as if it took no longer, as soon as that makes
        its configuration look slower.
        """
        known = [each.is_known for each in bounds]
        chance = self._chance(mean_s, bounds, known)
        level = self._level(bounds, known) if any(known) else -math.inf
        late = [
            each.is_known or (each.lower > 0 and math.log(each.lower) - effect > level)
            for each, effect in zip(bounds, self._effects(len(bounds)), strict=True)
        ]
        return chance if late == known else min(chance, self._chance(mean_s, bounds, late))

    def expected_mean_s(self, bounds: Sequence[TrialBounds]) -> float:
        """The mean time over all seeds that is expected of a configuration, some of whose seeds are open.

        With a known seed, the others follow from it. Without one, an open seed takes as long as the trials on average
        that took longer than this configuration has spent on one seed; the budget if there are none.
        """
        known = [each.is_known for each in bounds]
        if any(known):
            level = self._level(bounds, known)
            open_s = [math.exp(level + effect) for effect in self._effects(len(bounds))]
        else:
            spent_s = max(each.lower for each in bounds)
            longer = [time for times in self._times.values() for time in times if time is not None and time > spent_s]
            open_s = [math.fsum(longer) / len(longer) if longer else self._budget_s] * len(bounds)
        within = [min(max(each.lower, open_s[place]), each.upper) for place, each in enumerate(bounds)]
        return math.fsum(within) / len(within)

    @cached_property
    def _means_s(self) -> list[float]:
        """The mean times of the complete configurations, ascending."""
        known = ([time for time in times if time is not None] for times in self._times.values())
        return sorted(
            math.fsum(each) / len(each)
            for each, times in zip(known, self._times.values(), strict=True)
            if len(each) == len(times)
        )

    @cached_property
    def _fit(self) -> Fit | None:
        # A miss says nothing about the noise: it counts as the budget, whatever the seed.
        log_s = np.array(
            [
                [math.nan if time is None or not 0 < time < self._budget_s else math.log(time) for time in times]
                for times in self._times.values()
            ]
        )
        if not np.isfinite(log_s).any():
            return None
        # A time is rounded up to the next evaluation: an error as wide as the interval, evenly spread.
        return Fit(log_s, self._interval_s / math.sqrt(12) / math.exp(float(np.nanmean(log_s))))

    def _effects(self, num_seeds: int) -> Sequence[float]:
        return [0.0] * num_seeds if self._fit is None else self._fit.effects.tolist()

    def _level(self, bounds: Sequence[TrialBounds], counted: Sequence[bool]) -> float:
        """The configuration's mean log time, free of the seeds' effects. Args: counted: the seeds that say it."""
        effects = self._effects(len(bounds))
        logs = [
            math.log(each.lower) - effect
            for each, effect, counts in zip(bounds, effects, counted, strict=True)
            if counts
        ]
        return math.fsum(logs) / len(logs)

    def _chance(self, mean_s: float, bounds: Sequence[TrialBounds], counted: Sequence[bool]) -> float:
        """Args: counted: the seeds whose times are taken to be their lower bounds. The others are predicted."""
        num_counted, num_open = sum(counted), len(bounds) - sum(counted)
        if not num_counted:
            return 1.0
        # What the open seeds may take together.
        left_s = mean_s * len(bounds) - math.fsum(
            each.lower for each, counts in zip(bounds, counted, strict=True) if counts
        )
        if not num_open:
            return float(left_s >= 0)
        if left_s <= 0:
            return 0.0
        assert self._fit is not None
        open_effects = [e for e, counts in zip(self._fit.effects.tolist(), counted, strict=True) if not counts]
        needed = math.log(left_s / math.fsum(map(math.exp, open_effects)))
        variance = (1 / num_counted + 1 / num_open) * (1 + 1 / self._fit.num_configurations)
        t = (needed - self._level(bounds, counted)) / (self._fit.deviation * math.sqrt(variance))
        return float(stdtr(self._fit.freedom, t))
