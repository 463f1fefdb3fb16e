"""Limits how large a file may grow when unpacked. Weights hardly compress, so no checkpoint grows much."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from kdas.errors import UserError

_ALWAYS_ALLOWED_BYTES, _MOST_GROWTH = 256_000_000, 10


def most_unpacked_bytes(file: BinaryIO) -> int:
    """The number of bytes that may be unpacked from a file: ten times its size, and at least 256 MB."""
    place = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(place)
    return max(_ALWAYS_ALLOWED_BYTES, _MOST_GROWTH * size)


def check_growth(unpacked_bytes: int, file: BinaryIO, where: str) -> None:
    """Raises: UserError: if a checkpoint in this file could not have that many bytes."""
    most = most_unpacked_bytes(file)
    if unpacked_bytes > most:
        raise UserError(
            f"{where}: would take {unpacked_bytes / 1e9:.1f} GB unpacked, more than {_MOST_GROWTH} times its size."
            " Unpack it yourself and give the checkpoint."
        )


class TooLargeError(Exception):
    """More was unpacked than allowed."""


class Bounded:
    """A stream that is unpacked while it is read. Raises TooLargeError past `most` bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        self._stream, self._most = stream, most

    def read(self, size: int) -> bytes:
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
            raise TooLargeError
