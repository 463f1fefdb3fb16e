"""The file that records what a trial was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdas.files.journal import Extent, Journal
from kdas.records import PicksWindow


class PicksFile:
    """One line for each window that has ended. Trials of earlier versions lack the file."""

    def __init__(self, path: Path, remedy: str) -> None:
        self.path, self._journal = path, Journal(path, remedy=remedy)

    def append(self, windows: Sequence[PicksWindow]) -> None:
        """Add windows and flush them to disk."""
        self._journal.append(window.as_dict() for window in windows)

    def keep(self, windows: Sequence[PicksWindow]) -> None:
        """Replace the content with the windows of a checkpoint, which drops later ones."""
        if windows or self.path.exists():
            self._journal.replace(window.as_dict() for window in windows)

    def take_over(self, other: PicksFile) -> None:
        """Copy the file of the same trial in another sweep, if there is one."""
        if records := other._journal.read():
            self._journal.replace(records)

    def texts(self) -> list[bytes]:
        """The JSON text of each window; none if there is no file. Raises: DamagedError: if a window is missing."""
        return self._journal.texts()

    def extent(self) -> Extent:
        return self._journal.extent()
