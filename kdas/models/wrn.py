"""CIFAR wide ResNets: depth 6n + 4, three stages of pre-activation blocks, without dropout.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: Zagoruyko & Komodakis, BMVC 2016.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.models.initial import draw_convolutions
from kdas.models.interface import MODELS, Model


class PreActivationBlock(nn.Module):
    """Normalise, activate, convolve, twice, with a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        # Named as in the shared checkpoints. A module that is None does not appear in the state dict.
        self.convShortcut: nn.Module | None = None
        if in_channels != channels:
            self.convShortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        activated = functional.relu(self.bn1(images))
        hidden = self.conv2(functional.relu(self.bn2(self.conv1(activated))))
        # A projection sees what the first convolution sees; an identity passes the input on untouched.
        shortcut = images if self.convShortcut is None else self.convShortcut(activated)
        return torch.add(shortcut, hidden)


class WideResNet(Model):
    """A stem and three stages, the second and third at half the resolution of the one before.

    Args: depth: 6n + 4; width: times 16, 32 and 64 channels.
    """

    def __init__(self, num_classes: int, depth: int, width: int) -> None:
        super().__init__()
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.block1 = self._stage(blocks, 16, 16 * width, stride=1)
        self.block2 = self._stage(blocks, 16 * width, 32 * width, stride=2)
        self.block3 = self._stage(blocks, 32 * width, 64 * width, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        draw_convolutions(self)
        nn.init.zeros_(self.fc.bias)

    @staticmethod
    def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> nn.Sequential:
        first = PreActivationBlock(in_channels, channels, stride)
        others = (PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
        # The shared checkpoints keep a stage's blocks one level down, under `layer`.
        return nn.Sequential(OrderedDict(layer=nn.Sequential(first, *others)))

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.block3(self.block2(self.block1(self.conv1(images))))
        features = functional.relu(self.bn1(hidden)).mean(dim=(2, 3))
        return self.fc(features), features


def _register(depth: int, width: int) -> None:
    @MODELS.register(f"wrn_{depth}_{width}", source="Zagoruyko & Komodakis, BMVC 2016")
    def build(num_classes: int) -> Model:
        return WideResNet(num_classes, depth, width)

    build.__doc__ = f"Wide ResNet of depth {depth} with {16 * width}, {32 * width} and {64 * width} channels."


for _depth in (16, 40):
    for _width in (1, 2):
        _register(_depth, _width)
