"""What a search has spent of its budget over all starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kdas.files.record import DamagedError, read_record, write_record
from sweeps.file.blocks import BudgetConfig

_TOTALS = ("wall_s", "device_s")
# A kill may lose this much of the totals.
KEPT_EVERY_S = 10.0
SECONDS_PER_HOUR = 3600.0


class Spending:
    """Wall time and device time of the search. They end the search, but never baselines or confirmation runs.

    Args: share: the fraction of a device that one trial holds; file: where totals are stored, None for nowhere;
        now: a clock in seconds; trained_s: the seconds that all trials have trained, to rebuild a damaged file from.
    """

    def __init__(
        self,
        budget: BudgetConfig,
        share: float,
        file: Path | None,
        now: Callable[[], float],
        trained_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._budget, self._share, self._file, self._now = budget, share, file, now
        self.wall_s, self.device_s = self._kept(trained_s)
        self._has_found = self._is_finished_by_hand = False
        self._last = self._kept_at = now()

    def _kept(self, trained_s: Callable[[], float]) -> tuple[float, float]:
        try:
            kept = read_record(self._file, *_TOTALS, remedy="Delete it.") if self._file else {}
        except FileNotFoundError:
            kept = {}
        except DamagedError:
            # As if the device had been busy all the time.
            return (trained_s() * self._share,) * 2
        return kept.get("wall_s", 0.0), kept.get("device_s", 0.0)

    def tick(self, num_running: int) -> None:
        """Count the time since the last call, during which `num_running` trials ran."""
        now = self._now()
        self.wall_s += now - self._last
        self.device_s += (now - self._last) * num_running * self._share
        self._last = now
        if now - self._kept_at >= KEPT_EVERY_S:
            self.keep()

    def found(self, tta_ref_s: float, reached_by_all: bool) -> None:
        """Report a complete configuration. Args: tta_ref_s: mean time to the target; reached_by_all: on every seed."""
        wanted = self._budget.stop_when
        if wanted is None:
            return
        is_soon = wanted.tta_ref_s_below is not None and tta_ref_s < wanted.tta_ref_s_below
        self._has_found = self._has_found or is_soon or (wanted.first_reached and reached_by_all)

    def finish(self) -> None:
        """End the search because a user asks for it."""
        self._is_finished_by_hand = True

    def keep(self) -> None:
        """Write the totals to disk."""
        self._kept_at = self._last
        if self._file is not None:
            write_record(self._file, {"wall_s": self.wall_s, "device_s": self.device_s})

    @property
    def is_spent(self) -> bool:
        """Whether the search must end."""
        return bool(self.reason)

    @property
    def reason(self) -> str:
        """Why the search ends; empty while it runs."""
        if self._hours_spent or self._is_finished_by_hand:
            return self._hours_spent or "as you asked"
        return "`stop_when` is met" if self._has_found else ""

    @property
    def _hours_spent(self) -> str:
        budget = self._budget
        if budget.wall_hours is not None and self.wall_s >= budget.wall_hours * SECONDS_PER_HOUR:
            return f"{budget.wall_hours:g} wall hours are used up"
        if budget.device_hours is not None and self.device_s >= budget.device_hours * SECONDS_PER_HOUR:
            return f"{budget.device_hours:g} device hours are used up"
        return ""

    @property
    def sets_aside(self) -> bool:
        """Whether running trials are paused too, until the search may continue."""
        ends_them = bool(self._hours_spent) or self._is_finished_by_hand
        return ends_them and self._budget.when_spent == "checkpoint"
