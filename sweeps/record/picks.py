"""The file of what a trial was trained on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from kdas.files.cache import write_text
from kdas.records import PicksWindow


class PicksFile:
    """One line for each window of a trial that has ended. Trials of earlier versions have no such file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, windows: Sequence[PicksWindow]) -> None:
        """Add windows and see them onto the disk."""
        if not windows:
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_lines(windows))
            file.flush()
            os.fsync(file.fileno())

    def keep(self, windows: Sequence[PicksWindow]) -> None:
        """Hold the windows that a checkpoint knows of, and none that came after it."""
        if windows or self._path.exists():
            write_text(self._path, _lines(windows))

    def take_over(self, other: PicksFile) -> None:
        """Hold what the file of the same trial in another sweep holds, if it has one."""
        if lines := other.whole_lines():
            write_text(self._path, lines.decode())

    def whole_lines(self) -> bytes:
        """The file but for a line that a kill cut short; nothing where there is no file."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        return content[: content.rfind(b"\n") + 1]


def _lines(windows: Sequence[PicksWindow]) -> str:
    return "".join(f"{json.dumps(window.as_dict())}\n" for window in windows)
