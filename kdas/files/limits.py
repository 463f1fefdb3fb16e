"""Limits how large a file may grow when unpacked. Weights hardly compress, so no checkpoint grows much."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import Any, BinaryIO

from kdas.errors import UserError

_ALWAYS_ALLOWED_BYTES, MOST_GROWTH = 256_000_000, 10
# A name takes up to 4 kB, the notes beside it a little more.
_MOST_HEADER_BYTES = 1_000_000
_BLOCK_BYTES = 512


def most_unpacked_bytes(file: BinaryIO) -> int:
    """The number of bytes that may be unpacked from a file: ten times its size on the disk, and at least 256 MB."""
    return max(_ALWAYS_ALLOWED_BYTES, MOST_GROWTH * min(_length(file), _bytes_on_disk(file)))


def check_growth(unpacked_bytes: int, file: BinaryIO, where: str) -> None:
    """Raises: UserError: if a checkpoint in this file could not have that many bytes."""
    most = most_unpacked_bytes(file)
    if unpacked_bytes > most:
        raise UserError(
            f"{where}: would take {unpacked_bytes / 1e9:.1f} GB unpacked, more than {MOST_GROWTH} times its size."
            " Unpack it yourself and give the checkpoint."
        )


def check_not_sparse(file: BinaryIO, where: str) -> None:
    """Raises: UserError: if a file claims far more bytes than the disk holds of it."""
    if _length(file) > most_unpacked_bytes(file):
        raise UserError(
            f"{where}: is {_length(file) / 1e9:.1f} GB long, but the disk holds {_bytes_on_disk(file) / 1e9:.1f} GB of"
            " it; the rest is empty. Copy it again."
        )


def _length(file: BinaryIO) -> int:
    place = file.tell()
    length = file.seek(0, io.SEEK_END)
    file.seek(place)
    return length


def _bytes_on_disk(file: BinaryIO) -> int:
    """Its length where that is unknown: in memory, and on systems that do not count blocks."""
    with suppress(OSError, AttributeError):
        return os.fstat(file.fileno()).st_blocks * _BLOCK_BYTES or _length(file)
    return _length(file)


class TooLargeError(Exception):
    """More was to be read than allowed. Its text says what, and the remedy."""


class Bounded:
    """A stream that is unpacked while it is read.

    Raises TooLargeError past `most` bytes, and, until `allow_all`, for more than a header at once.
    """

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._most, self._most_at_once = stream, most, _MOST_HEADER_BYTES

    def allow_all(self) -> None:
        """The headers are read; what comes now is content."""
        self._most_at_once = self._most

    def read(self, size: int) -> bytes:
        if size > self._most_at_once:
            raise TooLargeError(
                f"has a header of over {_MOST_HEADER_BYTES / 1e6:.0f} MB, and no checkpoint has one. Copy it again."
            )
        content: bytes = self._stream.read(min(size, self._most + 1 - self._stream.tell()))
        self._check(self._stream.tell())
        return content

    def seek(self, position: int) -> int:
        self._check(position)
        reached: int = self._stream.seek(position)
        return reached

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def _check(self, position: int) -> None:
        if position > self._most:
            raise TooLargeError(
                f"unpacks to over {self._most / 1e9:.1f} GB, far more than weights shrink. Unpack it yourself and give"
                " the checkpoint."
            )
