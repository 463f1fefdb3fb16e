"""Keeps MLflow up to date in a thread while a sweep runs."""

from __future__ import annotations

import threading
import time

from kdas.errors import UserError
from sweeps.mlflow_view.address import redacted
from sweeps.mlflow_view.view import MlflowView
from sweeps.record.directory import SweepDirectory

# Pauses before each attempt to reach the server.
_ATTEMPTS_S = (0.0, 1.0, 3.0)
# How long the end of a sweep waits for the last pass.
_LAST_PASS_S = 30.0


def failure_text(error: Exception) -> str:
    """What went wrong with the server, in one line and without passwords."""
    text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return redacted(text.strip().split("\n", 1)[0])


def pause_s(took_s: float) -> float:
    """Seconds to wait after a pass of `took_s` seconds, so that a follower works at most a quarter of the time.

    If trials end faster than the server accepts them, it would otherwise compete with them permanently.
    """
    return max(2.0, 3 * took_s)


def sync(directory: SweepDirectory) -> str:
    """Send what MLflow lacks of a sweep that is not running. Returns: what went wrong, empty if nothing did."""
    failure = ""
    for pause_before_s in _ATTEMPTS_S:
        time.sleep(pause_before_s)
        try:
            MlflowView(directory).sync()
            return ""
        except UserError as error:
            return failure_text(error)
        except Exception as error:  # noqa: BLE001 (whatever a tracking server does, the sweep is complete)
            failure = failure_text(error)
    return failure


def register(directory: SweepDirectory, name: str) -> list[str]:
    """Register the best student of each method in MLflow. Returns, raises: as `StudentModels.register`."""
    return MlflowView(directory).models.register(name)


class Follower:
    """Updates the view in a thread. A failure is remembered and never raised into the sweep."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._sweep_is_finished = False
        self.failure: str = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, sweep_is_finished: bool) -> None:
        """Send what is missing, then end. Args: sweep_is_finished: False if it was interrupted."""
        self._sweep_is_finished = sweep_is_finished
        self._stop.set()
        self._thread.join(timeout=_LAST_PASS_S)
        if self._thread.is_alive():
            self.failure = self.failure or f"no answer within {_LAST_PASS_S:g} s"

    def _follow(self) -> None:
        view: MlflowView | None = None
        while True:
            is_last = self._stop.is_set()
            began = time.monotonic()
            try:
                view = view or MlflowView(self._directory)
                try:
                    view.update()
                finally:
                    if is_last and not self._sweep_is_finished:
                        view.leave()
                self.failure = ""
            except Exception as error:  # noqa: BLE001 (whatever a tracking server does, the sweep continues)
                self.failure = failure_text(error)
            if is_last:
                return
            self._stop.wait(pause_s(time.monotonic() - began))
