"""Steps that several models are made of."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from kdas.models.interface import Maps


def activated(before: Tensor) -> Maps:
    """A map before and after the activation, a ReLU."""
    return Maps(before, functional.relu(before))


class ResidualStage(nn.Sequential):
    """Residual blocks that end with a ReLU. Each block has `before_activation`."""

    def forward(self, maps: Maps) -> Maps:
        hidden = maps.after
        last: Any
        *others, last = self
        for block in others:
            hidden = block(hidden)
        return activated(last.before_activation(hidden))
