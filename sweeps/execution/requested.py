"""Passes on what users ask of a running sweep, as `control.json` says it, to the sweep's agenda."""

from __future__ import annotations

from collections.abc import Callable

from kdas.errors import UserError
from sweeps.engine.agenda import Agenda
from sweeps.record.control import taken_up
from sweeps.record.directory import SweepDirectory


class Listener:
    """Looks whether users ask for something new.

    Args: num_configurations: how many the sweep is to search; say: prints a line.
    """

    def __init__(
        self, agenda: Agenda, directory: SweepDirectory, num_configurations: int, say: Callable[[str], None]
    ) -> None:
        self._agenda, self._directory = agenda, directory
        self._num_configurations, self._say = num_configurations, say
        # Identifies the version of the file that was read last; None if there was no file.
        self._read: tuple[int, int] | None = None

    def look(self) -> None:
        """Read the file if it has changed since the last look. A damaged one changes nothing, and a line says so."""
        version = self._version()
        if version == self._read:
            return
        self._read = version
        try:
            asked = taken_up(self._directory, self._num_configurations)
        except UserError as error:
            self._say(f"{error} The sweep continues as before.")
            return
        for line in self._agenda.heed(asked):
            self._say(line)

    def _version(self) -> tuple[int, int] | None:
        try:
            found = self._directory.control_file.stat()
        except OSError:
            return None
        # Each version is a new file.
        return found.st_mtime_ns, found.st_ino
