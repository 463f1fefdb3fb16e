"""The interface of a batch transform."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from torch import Tensor

from kdas.data import Draw
from kdas.parts.registry import Registry


class TransformNeed(StrEnum):
    """What a transform needs of the rest of a trial."""

    LIVE_TEACHER = "live_teacher"  # the teacher must see the changed images, so no bank can answer for it
    PARTNERS = "partners"  # other samples of the batch, with whose labels it mixes
    PIXELS = "pixels"  # whole pixel values, so nothing may mix images before it


@dataclass(frozen=True)
class Mixed:
    """The second labels of a batch whose images are mixtures: targets int64 [B]; shares [B], each at most a half."""

    targets: Tensor
    shares: Tensor

    def rows(self, positions: Tensor) -> Mixed:
        """Those of the samples at these positions."""
        return self.each(lambda tensor: tensor[positions])

    def each(self, change: Callable[[Tensor], Tensor]) -> Mixed:
        """The same with both tensors changed."""
        return Mixed(change(self.targets), change(self.shares))


@dataclass(frozen=True)
class ViewBatch:
    """Views of a batch: images float32 [B, 3, H, W], normalised; targets int64 [B]; indices int64 [B].

    `indices` are places in the training set. If images are mixtures, `targets` are the labels with the larger share,
    and `mixed` has the others.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    mixed: Mixed | None = None


@dataclass(frozen=True)
class TransformContext:
    """What a transform may know about its trial when it is built.

    `pixels` turns normalised images into uint8 [B, 3, H, W], exactly unless they are mixtures; `normalized` turns them
    back.
    """

    num_samples: int
    image_size: int
    pixels: Callable[[Tensor], Tensor]
    normalized: Callable[[Tensor], Tensor]


class Transform(Protocol):
    """Changes a batch of views before student and teacher see it.

    What it draws for a sample is a function of seed, epoch and the sample's index: it depends neither on the rest of
    the batch nor on what was drawn before. Partners are a function of seed, epoch and the indices of the batch.
    """

    def __call__(self, batch: ViewBatch, draw: Draw) -> ViewBatch:
        """Args: batch, which is not changed in place; draw: seed and epoch. Returns: as many samples, in their order.

        On the device of the batch, with images of the same shape and dtype.
        """
        ...


TRANSFORMS: Registry[Transform] = Registry("transform", needs=TransformNeed)
