"""Models for the tests: one without batch norm, and one whose logits do not depend on the batch size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """One linear layer on all pixels: parts of a batch give the same as the whole batch, up to rounding."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits


class OneByOne(nn.Module):
    """A model that is shown its images one at a time.

    The shape of a batch decides which float32 kernel runs, and each kernel sums in its own order. On some processors
    the last bits of a logit therefore depend on the batch size. Here every image is a batch of one, so its logits have
    the same bits whatever else is in the batch.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        # Cloned, since the address of an image may also decide which kernel runs.
        return torch.cat([self.model(image[None].clone()) for image in images])
