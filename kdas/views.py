"""Views of an image: a finite, numbered set of crops and flips, or random crops that are resized."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdas import seeding


@dataclass(frozen=True)
class CropFlip:
    """The field's augmentation for small images, RandomCrop(size, padding) and a horizontal flip, as a numbered set.

    View id = (row * (2 * padding + 1) + column) * (2 if flip else 1) + mirrored, with row and column the corner of
    the crop in the padded image.
    """

    padding: int = 4
    size: int = 32
    flip: bool = True

    @property
    def num_views(self) -> int:
        return (2 * self.padding + 1) ** 2 * (2 if self.flip else 1)

    @property
    def shorter_side(self) -> int:
        """Length that the shorter side of a larger image is resized to before the centre is evaluated."""
        return self.size

    def apply(self, images: Tensor, view_ids: Tensor) -> Tensor:
        """Cut one view of each image.

        Args: images uint8 [B, C, H, W] with H = W = size; view_ids int64 [B] in [0, num_views).
        Returns: uint8 [B, C, H, W], laid out channels last.
        """
        mirrors = 2 if self.flip else 1
        corner, mirrored = view_ids // mirrors, view_ids % mirrors
        span = torch.arange(self.size, device=images.device)
        across = 2 * self.padding + 1
        rows = (corner // across)[:, None] + span
        columns = (corner % across)[:, None] + torch.where(mirrored[:, None] == 1, span.flip(0), span)
        padded = functional.pad(images, (self.padding,) * 4).permute(0, 2, 3, 1)
        image = torch.arange(len(images), device=images.device)
        return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)

    def crops(self, images: Tensor) -> list[Tensor]:
        """The views at the centre and the four corners, and mirrored if that is allowed: each uint8 [B, C, H, W]."""
        across, mirrors = 2 * self.padding + 1, 2 if self.flip else 1
        corners = [(self.padding, self.padding), (0, 0), (0, across - 1), (across - 1, 0), (across - 1, across - 1)]
        numbers = [(row * across + column) * mirrors + mirror for row, column in corners for mirror in range(mirrors)]
        return [self.apply(images, images.new_full((len(images),), number, dtype=torch.int64)) for number in numbers]

    def draw(self, num_images: int, seed: int, epoch: int) -> Tensor:
        """The view of each image in an epoch, int64 [num_images]: a function of seed, epoch and index alone."""
        return _drawn(self.num_views, num_images, seed, epoch)


@dataclass(frozen=True)
class ResizedCrop:
    """The field's augmentation for photographs: a random part of the image, resized, and a horizontal flip.

    Its views are drawn while the file is read (kdas.data.pixels), since they need the whole photograph. With `fixed`
    an image has only that many views, drawn once: an approximation (Shen & Savvides, 2021, FKD) that is off by default.
    """

    size: int = 224
    flip: bool = True
    fixed: int | None = None

    @property
    def num_views(self) -> int | None:
        """Number of views of an image; None if unlimited."""
        return self.fixed

    @property
    def shorter_side(self) -> int:
        """Length that the shorter side is resized to before the centre is evaluated: 256 for 224."""
        return round(self.size * 256 / 224)

    def crops(self, images: Tensor) -> list[Tensor]:
        """The images and, if that is allowed, their mirror images: each uint8 [B, C, H, W]."""
        return [images, images.flip(3)] if self.flip else [images]

    def draw(self, num_images: int, seed: int, epoch: int) -> Tensor | None:
        """As `CropFlip.draw`; None if views have no numbers."""
        return None if self.fixed is None else _drawn(self.fixed, num_images, seed, epoch)


def _drawn(num_views: int, num_images: int, seed: int, epoch: int) -> Tensor:
    return torch.randint(num_views, (num_images,), generator=seeding.generator(seed, "views", epoch))


Views = CropFlip | ResizedCrop
