"""What a tracker is: MLflow, TensorBoard, or one of the user's own."""

from __future__ import annotations

from typing import Protocol


class Tracker(Protocol):
    """Shows a sweep elsewhere. It is made with the `SweepDirectory`, from which it reads everything.

    Each method may raise anything. The sweep continues, and a later call sends what is missing: so a tracker must know,
    or find out, what it has sent. Methods are called in one thread of their own, and trials never wait for them.
    """

    def update(self) -> object:
        """Send what is new. Called every few seconds while the sweep runs."""

    def leave(self) -> object:
        """Show that the sweep was interrupted. Called after the last update."""

    def sync(self) -> str:
        """Send what is missing of a sweep that is not running, and its report. Returns: where to look, in words."""
