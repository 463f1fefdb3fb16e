"""Images as in the field's usual trainer: decoded in memory, and transformed one at a time on access."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from kdas.data import ResidentSplit, Split
from kdas.training.trial import Inputs


class Images(Dataset[tuple[Tensor, int, int]]):
    """Decoded images, uint8 [N, H, W, 3], transformed on access. An item is image, label and index."""

    def __init__(self, pixels: NDArray[np.uint8], labels: list[int], transform: Any) -> None:
        self.pixels, self.labels, self.transform = pixels, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index], index


def image_sets(inputs: Inputs) -> tuple[Images, Images]:
    """Training images with the field's augmentation, and test images without; both normalised as ours are."""
    splits = inputs.splits
    by_channel = ((values.flatten() / 255).tolist() for values in (splits.mean, splits.std))
    as_tensor = [transforms.ToTensor(), transforms.Normalize(*by_channel)]
    augmented = [transforms.RandomCrop(splits.image_size, padding=inputs.dataset.padding)]
    if inputs.dataset.flip:
        augmented.append(transforms.RandomHorizontalFlip())
    return (
        _images(splits.train, transforms.Compose([*augmented, *as_tensor])),
        _images(splits.test, transforms.Compose(as_tensor)),
    )


def _images(split: Split, transform: Any) -> Images:
    assert isinstance(split, ResidentSplit), "the usual trainer keeps small images in memory"
    # Copied into plain memory: our own trainer may map these pages from a file.
    pixels = np.ascontiguousarray(split.images.permute(0, 2, 3, 1).cpu().numpy())
    return Images(pixels, split.labels.tolist(), transform)
