"""The images of one trial: its training, validation and test splits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdas import seeding
from kdas.clock import batch_sizes
from kdas.data.interface import Labels
from kdas.errors import UserError
from kdas.views import CropFlip, Views

# Fixed views are the same for every trial of every sweep.
FIXED_VIEWS_SEED = 0


def stratified_parts(labels: Labels, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint, sorted sets of positions, the second with `fraction` of every class, rounded.

    Raises: UserError: if a class would be missing from one of them.
    """
    parts: list[NDArray[np.int64]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        size = round(fraction * len(members))
        if not 0 < size < len(members):
            raise UserError(
                f"validation: {fraction} of the {len(members)} samples of class {label} is {size}, so one part would"
                " have none of that class. Choose another fraction, or add data."
            )
        shuffled = torch.randperm(len(members), generator=seeding.generator(seed, "split", int(label))).numpy()
        parts.append(members[shuffled[:size]])
    part = np.sort(np.concatenate(parts))
    return np.setdiff1d(np.arange(len(labels)), part), part


def batches_of(order: Tensor, batch_size: int) -> list[Tensor]:
    """`order` [N] in batches, as the clock counts them."""
    return list(torch.split(order, batch_sizes(len(order), batch_size)))


# The numbers that decide the random crops of a batch while its files are read: three per sample, int64 [B, 3].
Drawn = NDArray[np.int64]


class Split(Protocol):
    """The images of one part of a set, wherever they are kept. `labels` int64 [N] are on the device."""

    @property
    def labels(self) -> Tensor: ...

    @property
    def numbers(self) -> Tensor:
        """The numbers of these images in the whole set: int64 [N], on the CPU."""
        ...

    def __len__(self) -> int: ...

    def read(
        self, batches: Iterable[Tensor], drawn: Iterable[Drawn] | None = None, *, aside: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of indices, in order, those that could be read and their images.

        Args: batches: indices [B], on the CPU; drawn: for each batch the numbers that decide its crops, if they are
            drawn while reading; aside: whether this pass may run in the middle of another one.
        Yields: indices [b] and images uint8 [b, 3, H, W], on the device.
        """
        ...


@dataclass(frozen=True)
class Draw:
    """A seed and an epoch, which together with a sample's index decide its view."""

    seed: int
    epoch: int


@dataclass(frozen=True)
class ResidentSplit:
    """A part of a set that is decoded on the device: `images` uint8 [M, 3, H, W] are those of the whole set.

    `labels` int64 [N] and `rows` int64 [N], both on the device, are the labels and positions of the part's images;
    without `rows` the part is the whole set. So the parts share one copy, which workers map. `readable` bool [N], on
    the CPU, is given if some images could not be read.
    """

    images: Tensor
    labels: Tensor
    readable: Tensor | None = None
    rows: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def numbers(self) -> Tensor:
        return torch.arange(len(self)) if self.rows is None else self.rows.cpu()

    def read(
        self, batches: Iterable[Tensor], drawn: Iterable[Drawn] | None = None, *, aside: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        wanted = [batch if self.readable is None else batch[self.readable[batch]] for batch in batches]
        for indices in on_device(wanted, self.images.device):
            yield indices, self.images[indices if self.rows is None else self.rows[indices]]


def on_device(batches: Sequence[Tensor], device: torch.device) -> Sequence[Tensor]:
    """The batches, moved in one copy: with a copy for each, the device would wait for each."""
    if device.type == "cpu" or not batches:
        return batches
    return torch.split(torch.cat(list(batches)).to(device), [len(batch) for batch in batches])


@dataclass(frozen=True)
class ImageSplits:
    """All images of a trial. With `validation = 0`, the test split is also the validation split.

    `num_images` is the size of the whole training set, of which `train` and perhaps `validation` are parts. `reading`
    is what the price of reading depends on, as plain data; empty if all images are on the device.
    """

    train: Split
    validation: Split
    test: Split
    views: Views
    num_classes: int
    num_images: int
    mean: Tensor
    std: Tensor
    reading: Mapping[str, Any] = field(default_factory=dict)

    @property
    def image_size(self) -> int:
        return self.views.size

    def view_ids(self, draw: Draw) -> Tensor | None:
        """The view of each training image, int64 [N], on the CPU; None if views are unlimited."""
        return self.views.draw(len(self.train), draw.seed, draw.epoch)

    def training_batches(self, batches: Sequence[Tensor], draw: Draw) -> Iterator[tuple[Tensor, Tensor]]:
        """For each batch of training indices [B], on the CPU, those that could be read and their views.

        Yields: indices [b] and images float32 [b, 3, H, W], normalised, on the device.
        """
        view_ids = self.view_ids(draw)
        if view_ids is not None:
            yield from self.view_batches(batches, [view_ids[batch] for batch in batches])
            return
        drawn = ([(draw.seed, draw.epoch, index) for index in batch.tolist()] for batch in batches)
        for indices, images in self.train.read(batches, map(np.array, drawn)):
            yield indices, self.normalized(images)

    def view_batches(
        self, batches: Sequence[Tensor], view_ids: Sequence[Tensor], *, aside: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """As `training_batches`, with the number of each sample's view given.

        Args: batches: indices [B]; view_ids: int64 [B] of each; all on the CPU; aside: see `Split.read`.
        """
        views, device = self.views, self.train.labels.device
        if not isinstance(views, CropFlip):
            # By number in the whole set, so that an image's fixed views do not depend on the part that is trained on.
            numbers = self.train.numbers
            drawn = (
                np.stack([np.full(len(batch), FIXED_VIEWS_SEED), ids.numpy(), numbers[batch].numpy()], axis=1)
                for batch, ids in zip(batches, view_ids, strict=True)
            )
            for indices, images in self.train.read(batches, drawn, aside=aside):
                yield indices, self.normalized(images)
            return
        read = self.train.read(batches, aside=aside)
        wanted = zip(batches, on_device(view_ids, device), strict=True)
        for (indices, images), (batch, ids) in zip(read, wanted, strict=True):
            if len(indices) < len(batch):  # some could not be read
                ids = ids[torch.isin(batch, indices.cpu()).to(device)]
            yield indices, self.normalized(views.apply(images, ids))

    def evaluation_batches(self, split: Split, multi_crop: bool = False) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The labels [b] of a split and its images float32 [b, 3, H, W], in order and without augmentation.

        With `multi_crop` there are several crops of each image, else one.
        """
        # Large enough to fill a device, small enough for a laptop's memory: 500 of 64 pixels, fewer of larger ones.
        batch_size = min(500, max(16, 500 * 64**2 // self.image_size**2))
        for indices, images in split.read(torch.split(torch.arange(len(split)), batch_size), aside=True):
            crops = self.views.crops(images) if multi_crop else [images]
            yield split.labels[indices], [self.normalized(crop) for crop in crops]

    def pixels(self, images: Tensor) -> Tensor:
        """The inverse of `normalized`: exact for its results, which differ by rounding only; others are rounded."""
        return (images * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)

    def normalized(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32, each channel shifted and scaled, channels last."""
        return ((images.float() - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
