"""The transforms of a trial, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdas.data import Draw, ImageSplits
from kdas.transforms.interface import TRANSFORMS, TransformContext, ViewBatch


class Pipeline:
    """Applies transforms in the order of the file. Args: parts: checked parts, perhaps none."""

    def __init__(self, parts: Sequence[Mapping[str, Any]], splits: ImageSplits) -> None:
        context = TransformContext(len(splits.train), splits.image_size, splits.pixels, splits.normalized)
        self._transforms = [TRANSFORMS.build(part, context) for part in parts]

    def __call__(self, images: Tensor, targets: Tensor, indices: Tensor, draw: Draw) -> ViewBatch:
        """Args: as in a `ViewBatch`."""
        batch = ViewBatch(images, targets, indices)
        for transform in self._transforms:
            batch = transform(batch, draw)
        return batch
