"""Append-only files of JSON objects, one per line, that survive a kill in the middle of a line.

Each line ends with a checksum over itself and all lines before it. So a reader notices a missing, duplicate or changed
line. Only a loss at the end of the file goes unnoticed; `Extent` reveals it. Text that is not a record is skipped: if a
kill left it, no record is lost there.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from kdas.files.cache import sync_folder, write_text
from kdas.files.full import written
from kdas.files.record import DamagedError, record_bytes

_CHECK = b', "check": "%08x"}'
_CHECK_BYTES = len(_CHECK % 0)


class Extent(NamedTuple):
    """The number of records in a journal, and the checksum of the last one. Journals of the same extent are equal."""

    num_records: int
    check: str


class Journal:
    """A file of JSON objects, one per line. A last line that a kill truncated counts as not written.

    Args: remedy: what to do about a damaged file, for messages; is_plain: write no checksums, for files that other
        programs read.
    """

    def __init__(self, path: Path, *, remedy: str = "Restore it from a copy.", is_plain: bool = False) -> None:
        self.path, self._remedy, self._is_plain = path, remedy, is_plain
        # The checksum of the last record; None before the file is read.
        self._last: int | None = None

    @property
    def num_bytes(self) -> int:
        """Size of the file in bytes, 0 if it does not exist: a cheap sign of new records."""
        return self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> list[dict[str, Any]]:
        """All complete records, in order; an empty list if the file does not exist.

        Raises: DamagedError: if a record is missing or changed; UserError: if the file cannot be read.
        """
        return [json.loads(text) for text in self.texts()]

    def texts(self) -> list[bytes]:
        """The JSON text of each record, as `read` parses it."""
        return self._scan()[0]

    def extent(self) -> Extent:
        """Number of records and the last checksum. Raises: as `read`."""
        texts, last = self._scan()
        return Extent(len(texts), f"{last:08x}")

    def append(self, records: Iterable[Mapping[str, Any]], *, sync: bool = True) -> None:
        """Append records. Creates no file if there are none. Args: sync: return only once they are on disk.

        Raises: as `read`.
        """
        before = self._scan()[1] if self._last is None else self._last
        lines, last = self._lines(records, before)
        if not lines:
            return
        written(self.path, lambda: self._write(lines, sync=sync))
        self._last = last

    def _write(self, lines: bytes, *, sync: bool) -> None:
        """Append all lines or none. Raises: OSError: if the disk is full."""
        before, is_new = self.num_bytes, not self.path.exists()
        try:
            with self.path.open("ab+") as file:
                # On a new line, so that records are not joined to a truncated one.
                file.write(b"\n" + lines if _ends_within_a_line(file) else lines)
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            if sync and is_new:
                sync_folder(self.path.parent)
        except OSError:
            with suppress(OSError):
                os.truncate(self.path, before)
            raise

    def replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace all records by these; readers see the old file until the new one is complete."""
        lines, last = self._lines(records, 0)
        write_text(self.path, lines.decode())
        self._last = last

    def _lines(self, records: Iterable[Mapping[str, Any]], last: int) -> tuple[bytes, int]:
        """Args: last: the checksum of the record before. Returns: the lines, and the checksum of the last one."""
        lines = []
        for record in records:
            text = json.dumps(record).encode()
            last = zlib.crc32(text, last)
            lines.append(text + b"\n" if self._is_plain else text[:-1] + _CHECK % last + b"\n")
        return b"".join(lines), last

    def _scan(self) -> tuple[list[bytes], int]:
        """The texts of all records, and the checksum of the last one."""
        texts: list[bytes] = []
        last, is_checked = 0, False
        for number, line in enumerate(self._content().splitlines(), start=1):
            text, check = _parted(line)
            if check is not None:
                last, is_checked = zlib.crc32(text, last), True
                if last != check:
                    reason = f"line {number} or a line before it is missing or changed"
                    raise DamagedError(self.path, reason, self._remedy)
                texts.append(text)
            elif not is_checked and _is_object(line):  # an earlier version wrote it
                last = zlib.crc32(line, last)
                texts.append(line)
        return texts, last

    def _content(self) -> bytes:
        try:
            return record_bytes(self.path)
        except FileNotFoundError:
            return b""


def _parted(line: bytes) -> tuple[bytes, int | None]:
    """A record's text and its checksum, None for a line that has none."""
    text, end = line[:-_CHECK_BYTES], line[-_CHECK_BYTES:]
    digits = end[len(b', "check": "') : -len(b'"}')]
    try:
        check = int(digits, 16)
    except ValueError:
        return line, None
    return (text + b"}", check) if end == _CHECK % check else (line, None)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _ends_within_a_line(file: BinaryIO) -> bool:
    if not file.seek(0, os.SEEK_END):
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"
