"""Compiles what a model answers, and pads batches so that few sizes are compiled."""

from __future__ import annotations

import torch
from torch import Tensor

from kdas.recipe.config import TrialConfig
from kdas.training.answering import Answering, Parts


class Compiler:
    """Compiles functions of images for one trial; leaves them as they are if the trial does not compile."""

    def __init__(self, config: TrialConfig, device: str) -> None:
        self._compiles, self._batch_size, self._device = config.compile, config.batch_size, device
        # Padded batches have a multiple of this size.
        self._quantum = max(2, config.batch_size // 4)

    def compiled(self, answer: Answering) -> Answering:
        """The function compiled, if the trial compiles."""
        if not self._compiles:
            return answer
        # A worker compiles students and teachers, with and without gradients, for small and large batches.
        torch._dynamo.config.recompile_limit = 64
        if self._device != "cuda":
            # Compile once for all batch sizes: once per size takes longer than it saves.
            return torch.compile(answer, dynamic=True)
        translated = torch.compile(answer, dynamic=False)

        def of_few_sizes(images: Tensor) -> Parts:
            # Each odd size at an epoch's end would be compiled for a single use.
            usual = len(images) == self._batch_size or len(images) % self._quantum == 0
            return translated(images) if usual else answer(images)

        return of_few_sizes

    def padded(self, images: Tensor) -> Tensor:
        """Images [B, ...], with copies of the last one up to a size that is compiled anyway.

        Scoring batches grow from epoch to epoch, and each size would be compiled. In eval mode padding is harmless.
        """
        short = -len(images) % self._quantum if self._compiles else 0
        return torch.cat([images, images[-1:].expand(short, -1, -1, -1)]) if short else images
