"""A small network that is trained beside the student, for samplers that need its losses."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from kdas import models, seeding
from kdas.compute.flops import counted
from kdas.compute.optimizer import optimizer_of, set_learning_rate
from kdas.compute.precision import Precision
from kdas.data import ImageSplits
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.samplers import SamplerNeed, network_of
from kdas.training.batch import Batch, cross_entropy


def proxy_name(sampler: Mapping[str, Any]) -> str:
    """The model that a sampler's proxy is; "" if it needs none. Args: sampler, as a checked file gives it."""
    return network_of(sampler, SamplerNeed.PROXY_LOSSES)


def check_proxy(sampler: Mapping[str, Any], num_classes: int, image_size: int) -> None:
    """Raises: UserError: if a sampler's proxy cannot be trained on images of this size, in pixels."""
    if name := proxy_name(sampler):
        try:
            models.check_image_size(name, num_classes, image_size, is_trained=True)
        except UserError as error:
            raise UserError(f"sampler.proxy: {error}") from error


class Proxy:
    """A network with its optimizer, which has the student's settings. It learns the labels alone.

    It is always in train mode, as in airbench: it is small, and never evaluated.
    """

    def __init__(self, config: TrialConfig, splits: ImageSplits, device: str) -> None:
        self._config, self._device, self._image_size = config, device, splits.image_size
        with seeding.global_draws(config.seed, "proxy"):
            model = models.create(proxy_name(config.sampler), splits.num_classes)
        model.take_pixels(splits.mean, splits.std)
        self._memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self._model = model.to(device).to(memory_format=self._memory_format)
        self._precision = Precision(config.precision, device)
        self._optimizer = optimizer_of(self._model, config.optimizer)
        # The epoch, and the number of the last forward pass in it.
        self._forwards = (0, 0)

    @torch.no_grad()
    def losses(self, batch: Batch, epoch: int) -> Tensor:
        """Cross-entropies [B]."""
        return self._losses(batch, epoch)

    def step(self, batch: Batch, epoch: int) -> None:
        """One update. Args: epoch, counted from 1."""
        set_learning_rate(self._optimizer, self._config.optimizer, epoch, self._config.epochs)
        self._optimizer.zero_grad(set_to_none=True)
        self._precision.backward(self._losses(batch, epoch).mean())
        self._precision.step(self._optimizer, self._model.parameters(), self._config.optimizer.clip_norm)

    def _losses(self, batch: Batch, epoch: int) -> Tensor:
        with self._draws(epoch), self._precision.autocast():
            logits = self._model(batch.images)
        return cross_entropy(logits.float(), batch)

    def _draws(self, epoch: int) -> AbstractContextManager[None]:
        """Dropout and the like draw from the global generator: make that a function of seed, epoch and pass."""
        self._forwards = (epoch, self._forwards[1] + 1 if self._forwards[0] == epoch else 0)
        return seeding.global_draws(self._config.seed, "proxy", *self._forwards, device=self._device)

    def flops(self) -> tuple[float, float]:
        """Floating point operations per sample: forward, and forward and backward. Only before training."""
        before = {key: tensor.clone() for key, tensor in self._model.state_dict().items()}
        size = self._image_size
        images = torch.zeros((2, 3, size, size), device=self._device).contiguous(memory_format=self._memory_format)
        with torch.no_grad():
            forward = counted(lambda: self._model(images))
        step = counted(lambda: self._model(images).sum().backward())
        self._model.load_state_dict(before)
        self._optimizer.zero_grad(set_to_none=True)
        return forward / 2, step / 2

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "precision": self._precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._precision.load_state_dict(state["precision"])
