"""A moving average of a network's weights and statistics."""

from __future__ import annotations

import copy
from itertools import chain

import torch
from torch import nn


class MovingAverage:
    """The exponential moving average of a model's parameters and buffers, in `module`.

    As torch's `AveragedModel` with `get_ema_multi_avg_fn`, which counts in a tensor and copies it to the device for
    each update. A GPU then waits.

    Args: decay: what an update keeps of the average, in (0, 1). The first update is a copy.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(model)
        self._decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take a model's present values in."""
        pairs = list(zip(_values(self.module), _values(model), strict=True))
        if not self.num_updates:
            for average, value in pairs:
                average.copy_(value)
        else:
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            torch._foreach_lerp_([own for own, _ in floats], [value for _, value in floats], 1 - self._decay)
            for average, value in pairs:
                if not average.is_floating_point():
                    average.copy_(average * self._decay + value * (1 - self._decay))
        self.num_updates += 1


def _values(model: nn.Module) -> chain[torch.Tensor]:
    return chain(model.parameters(), model.buffers())
