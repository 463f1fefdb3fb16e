"""Makes a `Model` of a network written elsewhere: its features are the input of its last linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.models.interface import Model


@dataclass(frozen=True)
class Expected:
    """What published weights expect of images: side in pixels, mean and deviation by channel, of pixels in [0, 1]."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class Tapped(Model):
    """A network with the interface of a model, under its own parameter names.

    Args: network: maps images [B, 3, H, W] to logits [B, C]; head: its layer that computes the logits.
    """

    def __init__(self, network: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.network = network
        # In a tuple, or the head would be registered a second time.
        self._head = (head,)

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        # For this call only: a hook that stays would keep the last batch alive and could not be copied or pickled.
        handle = self._head[0].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        try:
            logits = self.forward(images)
        finally:
            handle.remove()
        if not seen:
            raise RuntimeError(f"{type(self.network).__name__} does not use its last linear layer for images")
        return logits, self._pooled(seen[-1])

    def forward(self, images: Tensor) -> Tensor:
        outputs = self.network(images)
        # In train mode, networks with auxiliary heads return their logits together with the heads'.
        logits: Tensor = getattr(outputs, "logits", outputs)
        return logits

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        return self.network.load_state_dict(state_dict, strict, assign)

    def _pooled(self, hidden: Tensor) -> Tensor:
        """Features [B, D] from the head's input, averaged over pixels or tokens if there are several."""
        if isinstance(self._head[0], nn.Conv2d):
            return hidden.mean(dim=(2, 3))
        return hidden if hidden.ndim == 2 else hidden.flatten(1, -2).mean(dim=1)


class OwnInput(Tapped):
    """A network that sees images as its published weights do: resized, and normalised by their mean and deviation.

    Args: expected: what those weights expect.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, head: nn.Module, expected: Expected) -> None:
        super().__init__(network, head)
        self._expected = expected
        self.register_buffer("scale", torch.ones(1, 3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.zeros(1, 3, 1, 1), persistent=False)

    def take_pixels(self, mean: Tensor, std: Tensor) -> None:
        own_mean, own_std = (
            255 * torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1)
            for values in (self._expected.mean, self._expected.std)
        )
        self.scale.copy_(std.double().cpu() / own_std)
        self.shift.copy_((mean.double().cpu() - own_mean) / own_std)

    def forward(self, images: Tensor) -> Tensor:
        size = self._expected.size
        images = images * self.scale + self.shift
        if images.shape[2:] != (size, size):
            images = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
        return super().forward(images)


def tapped(network: nn.Module, num_classes: int, expected: Expected | None = None) -> Tapped:
    """`network` as a model. Its head is its last linear layer, preferably one with an output for each class.

    Args: expected: resize and normalise images like this, instead of passing them on as they are.
    Raises: ValueError: if it has no linear layer.
    """
    head = _head(network, num_classes)
    return Tapped(network, head) if expected is None else OwnInput(network, head, expected)


def _head(network: nn.Module, num_classes: int) -> nn.Module:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    with_logits = [module for module in linear if module.out_features == num_classes]
    # SqueezeNet has none: it convolves to one map for each class, and averages those.
    pointwise = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.out_channels == num_classes
    ]
    heads = with_logits or linear or pointwise
    if not heads:
        raise ValueError("has no Linear layer whose input could serve as features. Define forward_with_features")
    return heads[-1]
