"""No early stopping."""

from __future__ import annotations

from collections.abc import Sequence

from kdas.records import Status
from sweeps.stopping.interface import STOPPING_RULES


@STOPPING_RULES.register("none", source="this project")
class NeverStop:
    """Every trial runs to its end."""

    status = Status.STOPPED_EARLY
    only_for = None
    cost_shares = (1.0, 1.0, 1.0)

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        pass

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        pass

    def ended(self, trial_id: str, status: Status) -> None:
        pass

    def stops(self, config_id: str, trial_id: str) -> bool:
        return False
