"""The interface of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from kdas.parts.registry import Registry


class Mapped(NamedTuple):
    """What a model says of images, with the maps on the way there.

    `logits` [B, C]; `features` [B, D], which they come from; `maps`: [B, C, H, W] of the stem and at the end of each
    stage, after the activation; `preact_maps`: at the same places, before it (of the stem: its map).
    """

    logits: Tensor
    features: Tensor
    maps: list[Tensor]
    preact_maps: list[Tensor]


class Model(nn.Module, ABC):
    """An image classifier."""

    @abstractmethod
    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C], and the features [B, D] they come from."""

    def forward(self, images: Tensor) -> Tensor:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C]."""
        return self.forward_with_features(images)[0]

    def take_pixels(self, mean: Tensor, std: Tensor) -> None:
        """Learn what images are normalised by. Args: mean, std [1, 3, 1, 1], of pixels in [0, 255]."""


class Maps(NamedTuple):
    """A map [B, C, H, W] before and after the activation."""

    before: Tensor
    after: Tensor


class Staged(Model):
    """A model that is a stem and stages, and that gives the maps between them.

    Which maps those are follows the field's shared code, so that published losses on maps mean the same here.
    """

    @abstractmethod
    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        """Stem and stages, in order: each takes what the one before gives; the stem takes the images, twice."""

    @abstractmethod
    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        """Args: last: the maps of the last stage. Returns: logits [B, C] and features [B, D]."""

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        """For each stage, the batch norm that its map before the activation comes from."""
        return ()

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        # Earlier maps are let go: in evaluation they would fill memory.
        last = Maps(images, images)
        for part in self.parts(images.shape[2]):
            last = part(last)
        return self.head(last)

    def forward_with_maps(self, images: Tensor) -> Mapped:
        """As `forward_with_features`, with all maps."""
        seen = [Maps(images, images)]
        for part in self.parts(images.shape[2]):
            seen.append(part(seen[-1]))
        stem, *stages = seen[1:]
        maps, preact_maps = [each.after for each in stages], [each.before for each in stages]
        return Mapped(*self.head(seen[-1]), [stem.after, *maps], [stem.after, *preact_maps])


MODELS: Registry[Model] = Registry("model")
