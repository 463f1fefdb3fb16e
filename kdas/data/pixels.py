"""Reads image files as pixels of one size: the image as it is evaluated, or a random crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdas import seeding
from kdas.data.decoding import DECODING_ERRORS, mapped, opened, rgb
from kdas.data.fewer import drawn
from kdas.data.files import ImageFiles
from kdas.data.interface import Decoded, Images
from kdas.data.memory import check_room
from kdas.views import ResizedCrop, Views

Transform = Callable[[Any], Any]


def read_image(path: Path, views: Views, drawn_from: Sequence[int] | None = None) -> Images | None:
    """uint8 [size, size, 3]; None if the file cannot be read.

    Args: drawn_from: three numbers that decide the crop of `ResizedCrop` (seed, epoch and index, or seed, view and
        number); without them, the image as it is evaluated.
    """
    try:
        with opened(path) as file:
            return _seen(rgb(file), views, drawn_from)
    except DECODING_ERRORS:
        return None


def _seen(image: Image.Image, views: Views, drawn_from: Sequence[int] | None) -> Images:
    if drawn_from is None or not isinstance(views, ResizedCrop):
        return np.asarray(square(image, views.size, views.shorter_side))
    seed, *further = drawn_from
    with seeding.global_draws(seed, "view" if views.fixed is None else "fixed view", *further):
        return np.asarray(_drawn_crop(views)(image))


def square(image: Image.Image, size: int, shorter_side: int | None = None) -> Image.Image:
    """The middle of an image, whose shorter side is brought to `shorter_side`, or else to `size`, first."""
    middle: Image.Image = _centre(size, shorter_side or size)(image)
    return middle


def fitted(decoded: Decoded, size: int | None, max_samples: int | None) -> Decoded:
    """A decoded set without gaps at another size, and of each part only the images that are drawn for a first try.

    Raises: UserError: if they do not fit into memory.
    """
    if size is None and max_samples is None:
        return decoded
    fewer = decoded.taken(*drawn(decoded.train_labels, decoded.test_labels, max_samples))
    if size is None:
        return fewer
    _check_room(len(fewer.train_labels) + len(fewer.test_labels), size)
    return replace(
        fewer, train_images=_resized(fewer.train_images, size), test_images=_resized(fewer.test_images, size)
    )


def _resized(images: Images, size: int) -> Images:
    """Images uint8 [N, 3, H, H] as [N, 3, size, size]."""
    at_size = np.empty((len(images), 3, size, size), np.uint8)

    def fit(number: int) -> None:
        image = Image.fromarray(np.ascontiguousarray(images[number].transpose(1, 2, 0)))
        at_size[number] = np.asarray(square(image, size)).transpose(2, 0, 1)

    for _ in mapped(fit, range(len(images))):
        pass
    return at_size


def _check_room(num_images: int, size: int) -> None:
    check_room(num_images * 3 * size**2, f"{num_images:,} images of {size}x{size} pixels")


def decode_files(files: ImageFiles, views: Views) -> Decoded:
    """All images of a set, as they are evaluated. Raises: UserError: if they do not fit into memory."""
    _check_room(len(files), views.size)
    images = np.zeros((len(files), 3, views.size, views.size), dtype=np.uint8)
    was_read = np.fromiter(mapped(partial(_decode_into, images, files, views), range(len(files))), dtype=bool)
    unreadable = np.flatnonzero(~was_read)
    return Decoded(
        images[: files.num_train],
        files.train_labels,
        images[files.num_train :],
        files.test_labels,
        unreadable,
        np.array([str(files.path(number)) for number in unreadable.tolist()], dtype=np.str_),
    )


def _decode_into(images: NDArray[np.uint8], files: ImageFiles, views: Views, number: int) -> bool:
    pixels = read_image(files.path(number), views)
    if pixels is not None:
        images[number] = pixels.transpose(2, 0, 1)
    return pixels is not None


@cache
def _centre(size: int, shorter_side: int) -> Transform:
    # torchvision takes seconds to load and few sweeps need it.
    from torchvision.transforms import v2

    transform: Transform = v2.Compose([v2.Resize(shorter_side), v2.CenterCrop(size)])
    return transform


@cache
def _drawn_crop(views: ResizedCrop) -> Transform:
    from torchvision.transforms import v2

    flips = [v2.RandomHorizontalFlip()] if views.flip else []
    transform: Transform = v2.Compose([v2.RandomResizedCrop(views.size), *flips])
    return transform
