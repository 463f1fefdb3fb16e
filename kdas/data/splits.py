"""The images of one trial on its device: a training part, a validation part by seed, and the test split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdas import seeding
from kdas.clock import batch_sizes
from kdas.data.plugin import Labels
from kdas.records import UserError
from kdas.views import CropFlip, Views


def stratified_parts(labels: Labels, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint, sorted sets of positions, the second holding `fraction` of every class, rounded.

    Raises: UserError: if a class would be missing from either.
    """
    parts: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = round(fraction * len(members))
        if not 0 < size < len(members):
            raise UserError(
                f"validation: {fraction} of the {len(members)} samples of class {label} is {size}, so one part would"
                " lack that class. Choose another fraction, or give more data."
            )
        shuffled = torch.randperm(len(members), generator=seeding.generator(seed, "split", int(label))).numpy()
        parts.append(members[shuffled[:size]])
    part = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), part), part


def batches_of(order: Tensor, batch_size: int) -> list[Tensor]:
    """`order` [N] in batches, as the clock counts them."""
    return list(torch.split(order, batch_sizes(len(order), batch_size)))


class Split(Protocol):
    """The images of one part of a set, wherever they are kept. `labels` int64 [N] lie on the device."""

    @property
    def labels(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def read(self, batches: Iterable[Tensor], draw: Draw | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of indices, in their order, those that could be read and their images.

        Args: batches: indices [B], on the CPU; draw: whose augmentation the images get, where it happens while reading.
        Yields: indices [b], on the CPU, and images uint8 [b, 3, H, W], on the device.
        """
        ...


@dataclass(frozen=True)
class Draw:
    """A seed and an epoch: with a sample's index they decide which view of it is seen."""

    seed: int
    epoch: int


@dataclass(frozen=True)
class ResidentSplit:
    """A part that lies decoded on the device: images uint8 [N, 3, H, W]; labels [N].

    `readable` bool [N], on the CPU, where some images could not be read.
    """

    images: Tensor
    labels: Tensor
    readable: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, batches: Iterable[Tensor], draw: Draw | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches:
            indices = batch if self.readable is None else batch[self.readable[batch]]
            yield indices, self.images[indices.to(self.images.device)]


@dataclass(frozen=True)
class ImageSplits:
    """Everything a trial sees. With `validation = 0` the test split stands in for the validation split.

    `reading` is what the price of reading depends on, as plain data; empty where all images lie on the device.
    """

    train: Split
    validation: Split
    test: Split
    views: Views
    num_classes: int
    mean: Tensor
    std: Tensor
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_size(self) -> int:
        return self.views.size

    def training_batches(self, batches: Iterable[Tensor], draw: Draw) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of training indices [B] those that could be read, and their views float32 [b, 3, H, W]."""
        views = self.views
        view_ids = views.draw(len(self.train), draw.seed, draw.epoch) if isinstance(views, CropFlip) else None
        for indices, images in self.train.read(batches, draw):
            if isinstance(views, CropFlip) and view_ids is not None:
                images = views.apply(images, view_ids[indices].to(images.device))
            yield indices, self.normalized(images)

    def evaluation_batches(self, split: Split, multi_crop: bool = False) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The labels [b] of a split and its images float32 [b, 3, H, W], in order and without augmentation.

        With `multi_crop` each image comes in several crops, else in one.
        """
        # Large enough to fill a device, small enough for a laptop's memory: 500 of 64 pixels, fewer of larger ones.
        batch_size = min(500, max(16, 500 * 64**2 // self.image_size**2))
        for indices, images in split.read(torch.split(torch.arange(len(split)), batch_size)):
            crops = self.views.crops(images) if multi_crop else [images]
            yield split.labels[indices.to(split.labels.device)], [self.normalized(crop) for crop in crops]

    def normalized(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32, each channel shifted and scaled, channels last."""
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
