"""Initial weights that several families of published models share."""

from __future__ import annotations

from torch import nn


def draw_convolutions(model: nn.Module) -> None:
    """He initialisation over the fan out, biases at zero; a depthwise convolution counts all of its channels."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def draw_small(linear: nn.Linear) -> None:
    """Nearly uniform predictions at the start: weights of standard deviation 0.01, biases at zero."""
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
