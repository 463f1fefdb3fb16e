"""Where a sweep is shown while it runs, besides its own directory."""

from sweeps.tracking.interface import Tracker

__all__ = ["Tracker"]
