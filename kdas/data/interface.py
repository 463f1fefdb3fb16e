"""The interface of a dataset: its files, their properties, and the decoded images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kdas.data.files import ImageFiles
from kdas.files.home import expanded
from kdas.parts.registry import Registry
from kdas.views import CropFlip, ResizedCrop, Views

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Augment = Literal["crop_flip", "resized_crop"]
Keep = Literal["auto", "memory", "disk"]
# Parameters that every set has.
Resize = Annotated[
    int | None,
    Field(ge=8, le=2048, description="Side that images are brought to, in pixels, by shorter side and centre."),
]
MaxSamples = Annotated[
    int | None,
    Field(ge=2, description="Most training images, and most test images, for a first try: as many of each class."),
]


@dataclass(frozen=True)
class Decoded:
    """A whole set in memory: images uint8 [N, 3, H, W] with H = W, labels int64 [N].

    `unreadable` int64 [K] are the numbers of the images that could not be read, and `unreadable_names` [K] their names;
    test images are numbered after the training images. Unreadable images keep their places as black images that are
    never used, so that random draws for the others do not depend on when the damage was noticed.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    unreadable: Labels = field(default_factory=lambda: np.empty(0, np.int64))
    unreadable_names: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, np.str_))

    def taken(self, train: Labels, test: Labels) -> Decoded:
        """Some of the training and some of the test images, by their places in their part, of a set without gaps."""
        assert not len(self.unreadable)
        return Decoded(
            self.train_images[train], self.train_labels[train], self.test_images[test], self.test_labels[test]
        )


@dataclass(frozen=True)
class Dataset:
    """A dataset that was found on this machine, not yet decoded.

    `fingerprint` is a hash of its content. Trials and teachers are identified by `identity`, not by a path.
    `size` is what images are resized to, None where they stay as they are. A set of image files has `files` and such a
    size, and can be read without decoding all of it. `keep` says where its images are kept; it changes no result.
    `max_samples`: most images of a part. `fingerprint` is of the set before they are drawn; `decode` returns them.
    `class_names`: in the order of their numbers; empty where the set does not name its classes.
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
    files: ImageFiles | None = None
    size: int | None = None
    augment: Augment = "crop_flip"
    fixed_views: int | None = None
    keep: Keep = "auto"
    max_samples: int | None = None
    class_names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def identity(self) -> list[Any]:
        """Everything about a dataset that can change a curve, as plain data."""
        usual = {"size": None, "augment": "crop_flip", "fixed_views": None, "mean": None, "std": None}
        usual |= {"max_samples": None}
        further = {name: getattr(self, name) for name in usual}
        given = {key: value for key, value in further.items() if value != usual[key]}
        return [self.fingerprint, self.padding, self.flip, *([given] if given else [])]

    def views(self, size: int) -> Views:
        if self.augment == "resized_crop":
            return ResizedCrop(size=size, flip=self.flip, fixed=self.fixed_views)
        return CropFlip(padding=self.padding, size=size, flip=self.flip)


DATASETS: Registry[Dataset] = Registry("dataset")


def resolved_path(path: str | None, default: Path) -> Path:
    """The folder the user named, or the default one."""
    return expanded(path) if path else default
