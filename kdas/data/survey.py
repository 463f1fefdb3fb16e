"""Surveys the headers of a set's images: their sizes, and whether they need more than a conversion."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from kdas.data.corrupt import READING_ERRORS
from kdas.data.decoding import (
    TOO_MANY_PIXELS,
    UnfitImageError,
    grey_values,
    is_plain,
    is_wide,
    mapped,
    opened,
    upright_size,
)
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, write_text

Size = tuple[int, int]
# A set of 12 bits in files of 16 would be almost black, and of 16 levels.
_LEAST_RANGE = 4_096
_LONGEST = 500  # times the shorter side
# Decoding takes time and memory by the pixel. A photograph has up to 10 pixels for each byte of its file; a few
# kilobytes may hold a black image of 80 million. Small images are no burden, however well they shrink.
_LARGE_PIXELS, _MOST_SHRUNK_PIXELS, _MOST_PIXELS_OF_A_BYTE = 2**20, 30_000_000, 50


class Encoded(NamedTuple):
    """An image that is not decoded: what messages call it, and its file or bytes; None where there is none."""

    name: str
    source: Path | bytes | None
    why: str = ""  # there is none


@dataclass(frozen=True)
class Survey:
    """Facts about all images of a set whose header can be read.

    `is_plain`: each is Pillow's own conversion, so that nothing but its bytes decides its pixels; `sizes`: width and
    height of the first image, and of the first that differs; `names` of these two, empty where the survey was kept.
    """

    is_plain: bool = True
    sizes: tuple[Size, ...] = ()
    names: tuple[str, ...] = field(default=(), compare=False)

    def fingerprint(self, content: str) -> str:
        """The fingerprint of a set whose files have this one. Earlier versions decoded only plain sets as we do."""
        return content if self.is_plain else content_id(["upright, opaque, 8 bits", content], length=32)


def surveyed(content: str, origin: str, images: Callable[[], Iterable[Encoded]], *, names: bool = False) -> Survey:
    """The survey of a set, which is cached.

    Args: content: fingerprint of its files; origin: what messages call it; names: whether those are needed too.
    Raises: UserError: names the first image that must not be decoded.
    """
    file = cache_root() / "surveys" / f"{content}.json"
    kept = None if names else _kept(file)
    if kept is not None:
        return kept
    survey = _survey(origin, images())
    with suppress(UserError, OSError):  # without a cache it is made again
        write_text(file, json.dumps({**asdict(survey), "names": []}))
    return survey


class _Seen(NamedTuple):
    size: Size
    is_plain: bool
    largest: int | None  # grey value, of a wide image


class _Shrunk:
    """Counts the pixels of large images, and the bytes that they are in, before any of them is decoded."""

    def __init__(self, origin: str) -> None:
        self._origin, self._lock = origin, Lock()
        self._num_pixels = self._num_bytes = 0

    def add(self, image: Encoded, num_pixels: int) -> None:
        """Raises: UserError: once the pixels are too many for the bytes."""
        if image.source is None or num_pixels <= _LARGE_PIXELS:
            return
        size = image.source.stat().st_size if isinstance(image.source, Path) else len(image.source)
        with self._lock:  # images are looked at in threads
            self._num_pixels += num_pixels
            self._num_bytes += size
            if self._num_pixels > max(_MOST_SHRUNK_PIXELS, _MOST_PIXELS_OF_A_BYTE * self._num_bytes):
                raise UserError(
                    f"{self._origin}: {image.name} has {num_pixels / 1e6:.0f} million pixels in"
                    f" {max(1, size // 1000):,} kB, far more than a photograph of this size. Make such images smaller,"
                    " or remove them."
                )


def _survey(origin: str, images: Iterable[Encoded]) -> Survey:
    sizes: dict[Size, str] = {}
    all_plain, largest, shrunk = True, -1, _Shrunk(origin)
    for name, seen in mapped(lambda image: (image.name, _seen(image, shrunk)), images):
        if seen is None:
            continue
        if seen.size not in sizes and len(sizes) < 2:
            sizes[seen.size] = name
        all_plain &= seen.is_plain
        largest = max(largest, -1 if seen.largest is None else seen.largest)
    if -1 < largest < _LEAST_RANGE:
        raise UserError(
            f"{origin}: the largest value of its 16-bit images is {largest}, of 65535, so they would be almost black."
            " Scale their values up, or save them with 8 bits."
        )
    return Survey(all_plain, tuple(sizes), tuple(sizes.values()))


def _seen(image: Encoded, shrunk: _Shrunk) -> _Seen | None:
    """None: it cannot be read, which is counted where it is decoded."""
    if image.source is None:
        return None
    try:
        with opened(image.source) as header:
            shrunk.add(image, math.prod(header.size))
            size, largest = upright_size(header), int(grey_values(header).max()) if is_wide(header) else None
            if max(size) > _LONGEST * min(size):
                # With its shorter side at the usual size it would take gigabytes.
                raise UnfitImageError(f"{size[0]}x{size[1]} pixels are a strip, not an image. Crop it, or remove it")
            return _Seen(size, is_plain(header), largest)
    except TOO_MANY_PIXELS as error:
        raise UserError(f"{image.name}: has more than 89 million pixels. Make it smaller, or remove it.") from error
    except UnfitImageError as error:
        raise UserError(f"{image.name}: {error}.") from error
    except READING_ERRORS:
        return None


def _kept(file: Path) -> Survey | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        sizes = tuple((int(width), int(height)) for width, height in content["sizes"])
        return Survey(bool(content["is_plain"]), sizes) if sizes else None
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
