"""Racing: a configuration gets its next seed only while it has a chance to be among the fastest.

docs/measuring.md says what is computed, and what that may lose. The chance depends on what is known when it is asked
for, so a decision stays as long as it is not clearly wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdas.records import Status
from sweeps.stopping.capping import Capping, TrialBounds
from sweeps.stopping.interface import STOPPING_RULES, StoppingContext

# A configuration is dropped when its chance is below this. Chosen by simulation, see docs/measuring.md.
LEAST_CHANCE = 0.05
# One that was dropped returns from this chance on: small changes must not train it again at every start.
CHANCE_TO_RETURN = 0.2


@STOPPING_RULES.register("racing", source="Maron & Moore, NeurIPS 1993, Hoeffding races; here with Student's t")
class Racing:
    """Trains a setting on further seeds only while it may still be the fastest. Includes `capping`."""

    # What is dropped may return, for example if the configuration that it was compared with crashes.
    status = Status.CAPPED
    only_for = "tta"
    cost_shares = (0.15, 0.4, 1.0)

    def __init__(self, context: StoppingContext) -> None:
        # Not above: files are checked before numpy and scipy are imported.
        from sweeps.stopping.prediction.seed_model import SeedModel

        self._keep, self._confirms = context.keep, context.confirms
        self._capping = Capping(context)
        self._model = SeedModel(context.budget_ref_s, context.interval_ref_s)
        self._dropped: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        self._capping.add(config_id, trial_ids)

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        self._capping.evaluated(trial_id, cost_ref_s, val_accuracy)
        self._learn(self._capping.bounds.configuration_of(trial_id))

    def ended(self, trial_id: str, status: Status) -> None:
        config_id = self._capping.bounds.configuration_of(trial_id)
        self._capping.ended(trial_id, status)
        self._learn(config_id)

    def stops(self, config_id: str, trial_id: str) -> bool:
        if self._capping.stops(config_id, trial_id):
            return True
        chance = self._chance(config_id)
        if chance is None:
            return False
        is_dropped = chance < (CHANCE_TO_RETURN if config_id in self._dropped else LEAST_CHANCE)
        (self._dropped.add if is_dropped else self._dropped.discard)(config_id)
        return is_dropped

    def was_stopped(self, config_id: str) -> None:
        self._dropped.add(config_id)

    def holds(self, config_id: str, trial_id: str) -> bool:
        """Until the times of the seeds before are known. What was dropped waits until it can be compared again."""
        trials = self._capping.bounds.of(config_id)
        if trial_id not in trials or trials[trial_id].lower > 0:
            return False
        if config_id in self._dropped and self._chance(config_id) is None:
            return True
        before = list(trials)[: list(trials).index(trial_id)]
        return not all(trials[each].is_known for each in before)

    def is_done(self, config_id: str, trial_id: str) -> bool:
        """Once it has reached the target. Without a confirmation it trains on: the best student is in the search."""
        trials = self._capping.bounds.of(config_id)
        return self._confirms and trial_id in trials and trials[trial_id].is_known

    def leading(self) -> frozenset[str]:
        begun = (
            config_id for config_id in self._capping.bounds if any(each.is_known for each in self._bounds(config_id))
        )
        expected = {config_id: self._model.expected_mean_s(self._bounds(config_id)) for config_id in begun}
        return frozenset(sorted(expected, key=lambda config_id: (expected[config_id], config_id))[: self._keep])

    def why(self, config_id: str) -> str:
        if self._capping.stops(config_id, ""):
            return "it can no longer be among the fastest"
        chance = self._chance(config_id)
        return "" if chance is None else f"its chance to be among the fastest was {chance:.1%}"

    def estimate_ref_s(self, config_id: str) -> float | None:
        bounds = self._bounds(config_id)
        return self._model.expected_mean_s(bounds) if bounds else None

    def _bounds(self, config_id: str) -> list[TrialBounds]:
        return list(self._capping.bounds.of(config_id).values())

    def _learn(self, config_id: str | None) -> None:
        if config_id is not None:
            self._model.learn(config_id, self._bounds(config_id))

    def _chance(self, config_id: str) -> float | None:
        """The probability of a mean over all seeds below the incumbent's; None if too little or everything is known."""
        bounds, incumbent_s = self._bounds(config_id), self._model.incumbent_s(self._keep)
        if incumbent_s is None or all(each.is_known for each in bounds):
            return None
        return self._model.chance_below(incumbent_s, bounds)
