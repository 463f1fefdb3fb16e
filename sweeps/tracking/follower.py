"""Keeps the trackers up to date, each in a thread of its own, while a sweep runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kdas.errors import UserError
from sweeps.mlflow_view.address import redacted
from sweeps.record.directory import SweepDirectory
from sweeps.tracking.interface import Tracker
from sweeps.tracking.trackers import MakeTracker, trackers

# Pauses before each attempt to reach a server.
_ATTEMPTS_S = (0.0, 1.0, 3.0)
_PASS_EVERY_S = 2.0
# How long a tracker waits for the first evaluation. MLflow takes seconds of a processor to load, in the process that is
# to start the first trials, and until then there is little to show.
_BEGINS_WITHIN_S, _LOOKS_EVERY_S = 30.0, 0.2
# How long the end of a sweep waits for the last pass of each.
_LAST_PASS_S = 30.0


def failure_text(error: Exception) -> str:
    """What went wrong with a tracker, in one line and without passwords."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return redacted(text.strip().split("\n", 1)[0])


def pause_s(took_s: float) -> float:
    """Seconds to wait after a pass of `took_s` seconds: passes begin every two seconds, or at once if one took longer.

    A tracker that is behind must not rest as well, or it falls back further.
    """
    return max(0.0, _PASS_EVERY_S - took_s)


def sync(directory: SweepDirectory, make: MakeTracker) -> tuple[str, str]:
    """Send what a tracker lacks of a sweep that is not running.

    Returns: where to look, and what went wrong; one of them is empty.
    """
    failure = ""
    for pause_before_s in _ATTEMPTS_S:
        time.sleep(pause_before_s)
        try:
            return make(directory).sync(), ""
        except UserError as error:
            return "", failure_text(error)
        except Exception as error:  # noqa: BLE001 (whatever a tracker does, the sweep is complete)
            failure = failure_text(error)
    return "", failure


@contextmanager
def followed(
    directory: SweepDirectory,
    is_finished: Callable[[], bool],
    tell: Callable[[str], None],
    trains: Callable[[], bool],
) -> Iterator[None]:
    """Keep all trackers up to date within the block, and let them send what is missing after it.

    Args: is_finished: whether the sweep has ended, asked after the block; tell: takes a line about a failure;
        trains: whether there has been an evaluation, which the trackers await for up to 30 seconds.
    """
    followers = {name: Follower(directory, make, trains) for name, make in trackers().items()}
    for follower in followers.values():
        follower.start()
    try:
        yield
    finally:
        for follower in followers.values():
            follower.ask_to_stop(is_finished())
        for name, follower in followers.items():
            follower.wait()
            if follower.failure:
                tell(f"Some runs were not uploaded to {name} ({follower.failure}). Results are complete.")


class Follower:
    """Updates one tracker in a thread. A failure is remembered and never raised into the sweep.

    Args: trains: as in `followed`.
    """

    def __init__(self, directory: SweepDirectory, make: MakeTracker, trains: Callable[[], bool] = lambda: True) -> None:
        self._directory, self._make, self._trains = directory, make, trains
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="tracker", daemon=True)
        self._sweep_is_finished = False
        self.failure: str = ""

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self, sweep_is_finished: bool) -> None:
        """Let it send what is missing, then end. Args: sweep_is_finished: False if it was interrupted."""
        self._sweep_is_finished = sweep_is_finished
        self._stop.set()

    def wait(self) -> None:
        """Wait until it has ended, but not for ever: a server may not answer."""
        self._thread.join(timeout=_LAST_PASS_S)
        if self._thread.is_alive():
            self.failure = self.failure or f"no answer within {_LAST_PASS_S:g} s"

    def _follow(self) -> None:
        until = time.monotonic() + _BEGINS_WITHIN_S
        while not (self._trains() or time.monotonic() > until or self._stop.wait(_LOOKS_EVERY_S)):
            pass
        tracker: Tracker | None = None
        while True:
            is_last = self._stop.is_set()
            began = time.monotonic()
            try:
                tracker = tracker or self._make(self._directory)
                try:
                    tracker.update()
                finally:
                    if is_last and not self._sweep_is_finished:
                        tracker.leave()
                self.failure = ""
            except Exception as error:  # noqa: BLE001 (whatever a tracker does, the sweep continues)
                self.failure = failure_text(error)
            if is_last:
                return
            self._stop.wait(pause_s(time.monotonic() - began))
