"""The seam of a dataset: where its files are, what they are, and the decoded images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdas.registry import Registry
from kdas.views import CropFlip

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Decoded:
    """A whole set in memory: images uint8 [N, 3, H, W] with H = W, labels int64 [N]."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found on this machine, not yet decoded.

    `fingerprint` is a hash of its content: with it, not with a path, trials and teachers are identified.
    """

    name: str
    origin: str = field(compare=False)
    fingerprint: str
    num_classes: int
    decode: Callable[[], Decoded] = field(compare=False)
    padding: int = 4
    flip: bool = True
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    def views(self, size: int) -> CropFlip:
        return CropFlip(padding=self.padding, size=size, flip=self.flip)


DATASETS: Registry[Dataset] = Registry("dataset")


def resolved_path(path: str | None, default: Path) -> Path:
    """The folder the user named, or the default one."""
    return Path(path).expanduser() if path else default
