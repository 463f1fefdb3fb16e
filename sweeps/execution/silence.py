"""Trials that have fallen silent: their worker hangs, or a break in the network has swallowed what Ray sent."""

from __future__ import annotations

import time
from collections.abc import Callable

# A trial is given up after this many times the longest time between two reports, but not sooner than after the least.
TIMES, LEAST_S = 10, 600.0
# How long Ray may take to end a worker, and to say so.
ENDS_WITHIN_S = 60.0
# A machine that was asleep must not seem to have been silent.
_LONGEST_LOOK_S = 1.0


class Silence:
    """Knows how long each running trial has reported nothing.

    All trials of a sweep are evaluated after equal reference seconds. So how long the others took says what is too
    long.

    Args: expected_s: seconds between two reports, before there are any; clock: seconds, as `time.monotonic`.
    """

    def __init__(self, expected_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._looked_at = clock, clock()
        self._longest_s = expected_s
        self._silent_s: dict[str, float] = {}
        self._given_up: set[str] = set()

    def started(self, trial_id: str) -> None:
        self._silent_s[trial_id] = 0.0

    def reported(self, trial_id: str) -> None:
        self._longest_s = max(self._longest_s, self._silent_s[trial_id])
        self._silent_s[trial_id] = 0.0

    def ended(self, trial_id: str) -> None:
        self._silent_s.pop(trial_id, None)
        self._given_up.discard(trial_id)

    def look(self) -> dict[str, float]:
        """To be called at least once a second. Returns: the trials to give up now, with the seconds of silence."""
        now = self._clock()
        passed_s, self._looked_at = min(now - self._looked_at, _LONGEST_LOOK_S), now
        for trial_id in self._silent_s:
            self._silent_s[trial_id] += passed_s
        too_long_s = max(LEAST_S, TIMES * self._longest_s)
        fallen = {
            trial_id: silent_s
            for trial_id, silent_s in self._silent_s.items()
            if silent_s > too_long_s and trial_id not in self._given_up
        }
        for trial_id in fallen:
            self._given_up.add(trial_id)
            self._silent_s[trial_id] = 0.0
        return fallen

    @property
    def stays_silent(self) -> bool:
        """Whether a trial that was given up has not ended within a minute."""
        return any(self._silent_s[trial_id] > ENDS_WITHIN_S for trial_id in self._given_up)
