"""Augmentations of single images, by torchvision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdas import seeding
from kdas.data import Draw
from kdas.transforms.interface import TRANSFORMS, TransformContext, ViewBatch

Probability = Annotated[float, Field(ge=0, le=1, description="Probability that an image is changed.")]


def _torchvision() -> Any:
    # torchvision takes seconds to load and few sweeps need it.
    from torchvision.transforms import v2

    return v2


class EachImage:
    """Changes image by image. torchvision draws from the global generator, which is seeded for each of them.

    Args: purpose: sets the draws apart from all others; change: of one image [3, H, W].
    """

    def __init__(self, purpose: str, change: Callable[[Tensor], Tensor]) -> None:
        self._purpose, self._change = purpose, change

    def changed(self, images: Tensor, indices: Tensor, draw: Draw) -> Tensor:
        """Args: images [B, 3, H, W]; indices [B]."""
        changed = []
        with seeding.global_draws(draw.seed, self._purpose):  # which restores the generator
            for image, index in zip(images, indices.tolist(), strict=True):
                seed = seeding.derived_seed(draw.seed, self._purpose, draw.epoch, index)
                torch.default_generator.manual_seed(seed)
                changed.append(self._change(image))
        return torch.stack(changed)


class _OfPixels:
    """An augmentation of images in whole pixel values."""

    def __init__(self, context: TransformContext, purpose: str, change: Callable[[Tensor], Tensor]) -> None:
        self._context, self._each = context, EachImage(purpose, change)

    def __call__(self, batch: ViewBatch, draw: Draw) -> ViewBatch:
        changed = self._each.changed(self._context.pixels(batch.images), batch.indices, draw)
        return replace(batch, images=self._context.normalized(changed))


@TRANSFORMS.register("randaugment", source="Cubuk et al., NeurIPS 2020 (RandAugment)", needs=("live_teacher", "pixels"))
class RandAugment(_OfPixels):
    """A few operations on each image, drawn from 14, all of one strength."""

    def __init__(
        self,
        context: TransformContext,
        *,
        num_ops: Annotated[int, Field(ge=1, le=14, description="Number of operations on each image.")] = 2,
        magnitude: Annotated[int, Field(ge=0, le=30, description="Strength of the operations.")] = 9,
    ) -> None:
        super().__init__(context, "randaugment", _torchvision().RandAugment(num_ops, magnitude))


@TRANSFORMS.register(
    "trivialaugment", source="Mueller & Hutter, ICCV 2021 (TrivialAugment)", needs=("live_teacher", "pixels")
)
class TrivialAugment(_OfPixels):
    """One operation on each image, drawn from 14, of a drawn strength."""

    def __init__(self, context: TransformContext) -> None:
        super().__init__(context, "trivialaugment", _torchvision().TrivialAugmentWide())


@TRANSFORMS.register("random_erasing", source="Zhong et al., AAAI 2020 (Random Erasing)", needs=("live_teacher",))
class RandomErasing:
    """A rectangle of the image gets the mean colour of the training set."""

    def __init__(
        self,
        *,
        probability: Probability = 0.5,
        largest: Annotated[float, Field(gt=0.02, le=1, description="Largest part of the image to erase.")] = 0.33,
    ) -> None:
        # In normalised images 0 is the mean.
        erasing = _torchvision().RandomErasing(probability, (0.02, largest), value=0)
        self._each = EachImage("random_erasing", erasing)

    def __call__(self, batch: ViewBatch, draw: Draw) -> ViewBatch:
        return replace(batch, images=self._each.changed(batch.images, batch.indices, draw))
