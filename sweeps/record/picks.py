"""The file that records what a trial was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdas.files.journal import Journal
from kdas.records import PicksWindow


class PicksFile:
    """One line for each window that has ended. Trials of earlier versions lack the file."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def append(self, windows: Sequence[PicksWindow]) -> None:
        """Add windows and flush them to disk."""
        self._journal.append(window.as_dict() for window in windows)

    def keep(self, windows: Sequence[PicksWindow]) -> None:
        """Replace the content with the windows of a checkpoint, which drops later ones."""
        if windows or self._journal.path.exists():
            self._journal.replace(window.as_dict() for window in windows)

    def take_over(self, other: PicksFile) -> None:
        """Copy the file of the same trial in another sweep, if there is one."""
        if records := other._journal.read():
            self._journal.replace(records)

    def whole_lines(self) -> bytes:
        """The file's complete lines; empty if there is no file."""
        return self._journal.whole_lines()
