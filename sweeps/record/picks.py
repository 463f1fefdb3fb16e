"""The file of what a trial was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdas.files.journal import Journal
from kdas.records import PicksWindow


class PicksFile:
    """One line for each window of a trial that has ended. Trials of earlier versions have no such file."""

    def __init__(self, path: Path) -> None:
        self._journal = Journal(path)

    def append(self, windows: Sequence[PicksWindow]) -> None:
        """Add windows and see them onto the disk."""
        self._journal.append(window.as_dict() for window in windows)

    def keep(self, windows: Sequence[PicksWindow]) -> None:
        """Hold the windows that a checkpoint knows of, and none that came after it."""
        if windows or self._journal.path.exists():
            self._journal.replace(window.as_dict() for window in windows)

    def take_over(self, other: PicksFile) -> None:
        """Hold what the file of the same trial in another sweep holds, if it has one."""
        if records := other._journal.read():
            self._journal.replace(records)

    def whole_lines(self) -> bytes:
        """The file but for a line that a kill cut short; nothing where there is no file."""
        return self._journal.whole_lines()
