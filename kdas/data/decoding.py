"""From an encoded image to RGB pixels: one rule for every set, wherever its images are kept."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from PIL import ExifTags, Image

from kdas.data.corrupt import READING_ERRORS
from kdas.files.control_groups import num_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")
_IN_FLIGHT = 32
# What shows through where an image is transparent.
BACKGROUND = (255, 255, 255)
# The EXIF orientations that are not upright, and what turns them. Pillow itself turns a TIFF.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_LARGEST_16_BITS = 65_535
# Larger images are decoded one after the other: the largest that are read take half a gigabyte each.
_LARGE_PIXELS = 16_000_000
_ONE_AT_A_TIME = Lock()

# Over 89 million pixels Pillow only warns. A file of a few kilobytes may hold that many, and then takes a gigabyte.
warnings.simplefilter("error", Image.DecompressionBombWarning)
# Which says no more than that such notes are not read.
warnings.filterwarnings("ignore", message="Corrupt EXIF data", category=UserWarning)
TOO_MANY_PIXELS = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class UnfitImageError(Exception):
    """An image that can be read, but not as RGB pixels of 8 bits. Its text says why, and what to do."""


# Whatever keeps an image from being decoded.
DECODING_ERRORS = (*READING_ERRORS, *TOO_MANY_PIXELS, UnfitImageError)


@contextmanager
def opened(source: Path | bytes) -> Iterator[Image.Image]:
    """An image whose header is read and whose pixels are not.

    Raises: one of READING_ERRORS: if it is no image.
    """
    # Opened here: Pillow would leave the file open if it refused it.
    with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file, Image.open(file) as image:
        if image.format == "EPS":
            raise OSError("PostScript is a program, which Pillow would run")
        with _ONE_AT_A_TIME if math.prod(image.size) > _LARGE_PIXELS else nullcontext():
            yield image


def rgb(image: Image.Image) -> Image.Image:
    """The image upright, on the background where it is transparent, in mode RGB.

    Grey values of 16 bits are scaled to 8. Other modes are converted as Pillow does.

    Raises: one of READING_ERRORS: if it is damaged; UnfitImageError.
    """
    turn = _TURNS.get(_orientation(image))  # before the pixels are read, as `is_plain` sees it
    image.load()
    if is_wide(image):
        flat = Image.fromarray(((grey_values(image).astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    elif _has_transparency(image):
        flat = Image.new("RGBA", image.size, (*BACKGROUND, 255))
        flat.alpha_composite(image.convert("RGBA"))
        flat = flat.convert("RGB")
    else:
        flat = image if image.mode == "RGB" else image.convert("RGB")  # which would copy it
    return flat if turn is None else flat.transpose(turn)


def is_plain(image: Image.Image) -> bool:
    """Whether `rgb` is no more than Pillow's own conversion: the image is upright, opaque and has 8 bits a channel."""
    if _orientation(image) in _TURNS or is_wide(image):
        return False
    return not _has_transparency(image) or image.convert("RGBA").getchannel("A").getextrema()[0] == 255


def is_wide(image: Image.Image) -> bool:
    """Whether it has one channel of more than 8 bits. Pillow brings channels of a colour image to 8 bits itself.

    Raises: UnfitImageError: if its values are floating-point numbers.
    """
    if image.mode == "F":
        raise UnfitImageError("expected whole numbers, got floating-point values. Save it with 8 or 16 bits a channel")
    return image.mode.startswith("I")


def grey_values(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.integer]]:
    """The values [H, W] of a wide image. Raises: UnfitImageError: if one is outside 0 to 65,535."""
    values = np.asarray(image)
    lowest, largest = int(values.min()), int(values.max())
    if lowest < 0 or largest > _LARGEST_16_BITS:
        odd = lowest if lowest < 0 else largest
        raise UnfitImageError(f"expected values from 0 to {_LARGEST_16_BITS}, got {odd}. Save it with 16 bits")
    return values


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of what `rgb` returns."""
    width, height = image.size
    return (height, width) if _orientation(image) in _SIDEWAYS else (width, height)


def mapped(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """As `map`, in threads, since Pillow and files do without the interpreter's lock; few items are held at once."""
    items = iter(items)
    # No more threads than processors: each keeps what its largest image took.
    with ThreadPoolExecutor(num_cpus()) as pool:
        while block := list(islice(items, _IN_FLIGHT)):
            yield from pool.map(function, block)


def _orientation(image: Image.Image) -> int:
    if image.format != "TIFF":
        with suppress(*READING_ERRORS):  # damaged notes on an image that is whole
            # Not the method of a PNG, which reads all pixels first.
            return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    return 1


def _has_transparency(image: Image.Image) -> bool:
    return (image.mode != "P" or image.palette is not None) and image.has_transparency_data
