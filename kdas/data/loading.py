"""Splits a dataset into the parts that a trial uses, decoded on the device or streamed from disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdas.data.cache import decoded_once
from kdas.data.corrupt import readable_parts
from kdas.data.files import ImageFiles
from kdas.data.interface import Dataset, Images, Labels
from kdas.data.memory import fits
from kdas.data.splits import ImageSplits, ResidentSplit, stratified_parts
from kdas.data.streamed import StreamedSplit, streams_of

_IMAGES_AT_ONCE = 1000
# All trials of all sweeps validate on the same images.
VALIDATION_SEED = 0


# One entry serves a worker for a whole sweep; with several datasets, one replaces the other instead of filling memory.
@lru_cache(maxsize=1)
def load_splits(dataset: Dataset, validation: float, device: str, data_workers: int = 1) -> ImageSplits:
    """Split a dataset and move it to the device, or stream it from disk if it does not fit.

    Args: validation: fraction of the training set in [0, 0.5]; data_workers: processes that read a set from disk.
    """
    if dataset.files is not None and is_streamed(dataset, device):
        return _streamed(dataset, dataset.files, validation, device, data_workers)
    return _resident(dataset, validation, device)


def is_streamed(dataset: Dataset, device: str) -> bool:
    """Whether images are streamed from disk. It changes no result."""
    if dataset.files is None or dataset.size is None:
        return False
    if dataset.keep != "auto" or dataset.augment == "resized_crop":
        return dataset.keep != "memory"
    return not fits(len(dataset.files) * 3 * dataset.size**2, device)


def _resident(dataset: Dataset, validation: float, device: str) -> ImageSplits:
    decoded = decoded_once(dataset)
    readable, test_readable = readable_parts(decoded)
    mean, std = _channel_statistics(dataset, decoded.train_images, readable)
    rows, held_out = _rows(decoded.train_labels, validation)

    images, labels = torch.from_numpy(decoded.train_images).to(device), torch.from_numpy(decoded.train_labels)

    def of_training(rows: Labels | slice) -> ResidentSplit:
        whole = None if readable[rows].all() else torch.from_numpy(readable[rows])
        # Rows are indexed batch by batch, so that all parts and workers share one copy of the decoded images.
        numbers = None if isinstance(rows, slice) else torch.from_numpy(rows).to(device)
        return ResidentSplit(images, labels[rows].to(device), whole, numbers)

    test = ResidentSplit(
        torch.from_numpy(decoded.test_images).to(device),
        torch.from_numpy(decoded.test_labels).to(device),
        None if test_readable.all() else torch.from_numpy(test_readable),
    )
    return ImageSplits(
        train=of_training(rows),
        validation=test if held_out is None else of_training(held_out),
        test=test,
        views=dataset.views(int(decoded.train_images.shape[-1])),
        num_classes=dataset.num_classes,
        num_images=len(images),
        mean=_by_channel(mean, device),
        std=_by_channel(std, device),
    )


def _streamed(dataset: Dataset, files: ImageFiles, validation: float, device: str, data_workers: int) -> ImageSplits:
    assert dataset.size is not None and dataset.mean is not None and dataset.std is not None
    views = dataset.views(dataset.size)
    streams = streams_of(files, views, dataset.origin, data_workers, device)
    numbers = np.arange(len(files))

    def part(numbers: Labels) -> StreamedSplit:
        return StreamedSplit(torch.from_numpy(files.labels[numbers]).to(device), torch.from_numpy(numbers), streams)

    rows, held_out = _rows(files.train_labels, validation)
    test = part(numbers[files.num_train :])
    return ImageSplits(
        train=part(numbers[: files.num_train][rows]),
        validation=test if held_out is None else part(held_out),
        test=test,
        views=views,
        num_classes=dataset.num_classes,
        num_images=files.num_train,
        mean=_by_channel(dataset.mean, device),
        std=_by_channel(dataset.std, device),
        reading={"data_workers": data_workers, "data": dataset.identity},
    )


def _rows(labels: Labels, validation: float) -> tuple[Labels | slice, Labels | None]:
    """Positions of the images to train on and to validate on; None for the latter if the test split decides."""
    if not validation:
        return slice(None), None
    return stratified_parts(labels, validation, VALIDATION_SEED)


def _by_channel(values: Sequence[float], device: str) -> Tensor:
    """Three values in [0, 1] as float32 [1, 3, 1, 1] in [0, 255]."""
    return torch.tensor(values, dtype=torch.float32, device=device).mul(255).view(1, 3, 1, 1)


def _channel_statistics(
    dataset: Dataset, images: Images, readable: NDArray[np.bool_]
) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation per channel in [0, 1]: as published with the set's checkpoints, else measured."""
    if dataset.mean and dataset.std:
        return dataset.mean, dataset.std
    if not readable.all():
        images = images[readable]
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        # A histogram of the 256 levels is exact and needs no float copy of the set. It is counted in parts, since
        # counting takes eight bytes per pixel.
        counts = np.zeros(256, np.int64)
        for first in range(0, len(images), _IMAGES_AT_ONCE):
            counts += np.bincount(images[first : first + _IMAGES_AT_ONCE, channel].ravel(), minlength=256)
        share = counts / counts.sum()
        mean = float(share @ levels)
        means.append(mean)
        deviations.append(max(float(np.sqrt(share @ (levels - mean) ** 2)), 1e-6))
    return means, deviations
