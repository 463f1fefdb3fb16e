"""Append-only files of JSON objects, one per line, that survive a kill in the middle of a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from kdas.files.cache import write_text


class Journal:
    """A file of JSON objects, one per line. A kill can truncate the last line, which then counts as not written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def num_bytes(self) -> int:
        """Size of the file, 0 if there is none: a cheap sign of new records."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """All complete records, in order; none if there is no file."""
        records = []
        for line in self._content().splitlines():
            # Truncated by a kill. It can be any line, since later records start on a new one.
            with suppress(ValueError):
                records.append(json.loads(line))
        return records

    def whole_lines(self) -> bytes:
        """The file's bytes without a truncated last line, for readers that are faster than `read`."""
        content = self._content()
        end = content.rfind(b"\n") + 1
        return content[:end] + (content[end:] + b"\n" if _is_whole(content[end:]) else b"")

    def append(self, records: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Append records; without records no file is created. Args: sync: return only once they are on disk."""
        lines = _lines(records)
        if not lines:
            return
        with self.path.open("ab+") as file:
            # On a new line, so that records are not joined to a truncated one.
            file.write(f"\n{lines}".encode() if _ends_within_a_line(file) else lines.encode())
            if sync:
                file.flush()
                os.fsync(file.fileno())

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace all records by these; readers see the old file until the new one is complete."""
        write_text(self.path, _lines(records))

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""


def _lines(records: Iterable[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def _is_whole(line: bytes) -> bool:
    """Whether a last line lacks only its line break. No prefix of a JSON object is valid JSON."""
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _ends_within_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
