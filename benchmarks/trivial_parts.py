"""A dataset and a model so small that a trial costs almost nothing except orchestration."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from kdas.data import DATASETS, Dataset, Decoded

NUM_TRAIN, NUM_TEST, SIZE = 32, 8, 8


@DATASETS.register("trivial", source="made up")
def trivial() -> Dataset:
    """Forty images of 8x8 pixels in two classes, dark and bright."""
    return Dataset(
        name="trivial", origin="made up", fingerprint="trivial-1", num_classes=2, decode=_decoded, padding=1, flip=False
    )


def _decoded() -> Decoded:
    draw = np.random.default_rng(0)
    labels = np.arange(NUM_TRAIN + NUM_TEST, dtype=np.int64) % 2
    brightness = draw.integers(0, 128, (len(labels), 3, SIZE, SIZE)) + 100 * labels[:, None, None, None]
    images = brightness.astype(np.uint8)
    return Decoded(images[:NUM_TRAIN], labels[:NUM_TRAIN], images[NUM_TRAIN:], labels[NUM_TRAIN:])


class TrivialModel(nn.Module):
    """One linear layer on all pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * SIZE * SIZE, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Args: images [B, 3, 8, 8]. Returns: logits [B, num_classes]."""
        logits: Tensor = self.head(images.flatten(1))
        return logits
