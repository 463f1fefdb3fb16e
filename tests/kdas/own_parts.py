"""Models of the tests' own: one without batch norm, and one whose answers do not depend on how many are asked for."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Plain(nn.Module):
    """One linear layer on all pixels: parts of a batch and the whole give the same, up to rounding."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 8 * 8, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(images.flatten(1))
        return logits


class OneByOne(nn.Module):
    """A model that is shown its images one at a time.

    Kernels for float32 are chosen by the shape of a batch and add up in an order of their own, so on some processors an
    answer's last bits depend on how many images are asked about at once. Here each answer comes from a batch of one:
    whatever else is asked, its bits are the same by construction.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        # A copy of each: where an image lies in memory may decide on the kernel too.
        return torch.cat([self.model(image[None].clone()) for image in images])
