"""Random numbers of each sample in an epoch, functions of seed, epoch and index alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdas import seeding
from kdas.data import Draw

# From a generator and the number of samples to one or several numbers for each.
Drawing = Callable[[np.random.Generator, int], NDArray[np.float64]]


class OfEpoch:
    """Draws for all samples at once, and keeps those of the last epoch that was asked for, on the device.

    Args: purpose: sets the draws apart from all others; num_samples: of the training set; drawing: makes them.
    """

    def __init__(self, purpose: str, num_samples: int, drawing: Drawing) -> None:
        self._purpose, self._num_samples, self._drawing = purpose, num_samples, drawing
        self._of: tuple[Draw, torch.device] | None = None
        self._drawn = torch.empty(0)

    def __call__(self, draw: Draw, indices: Tensor) -> Tensor:
        """Those of some samples, float32 [B] or [B, K]. Args: indices [B]."""
        if self._of != (draw, indices.device):
            seed = seeding.derived_seed(draw.seed, self._purpose, draw.epoch)
            drawn = self._drawing(np.random.Generator(np.random.PCG64(seed)), self._num_samples)
            self._drawn = torch.from_numpy(drawn).float().to(indices.device)
            self._of = (draw, indices.device)
        return self._drawn[indices]
