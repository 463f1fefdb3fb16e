"""CIFAR wide ResNets: depth 6n + 4, three stages of pre-activation blocks, without dropout.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: Zagoruyko & Komodakis, BMVC 2016.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.models.initial import draw_convolutions
from kdas.models.interface import MODELS, Maps, Model, Staged


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
        return self.forward_normalised(images, self.bn1(images))

    def forward_normalised(self, images: Tensor, normalised: Tensor) -> Tensor:
        """As `forward`, with the result of its first batch norm given."""
        activated = functional.relu(normalised)
        hidden = self.conv2(functional.relu(self.bn2(self.conv1(activated))))
        # A projection sees what the first convolution sees; an identity passes the input on untouched.
        shortcut = images if self.convShortcut is None else self.convShortcut(activated)
        return torch.add(shortcut, hidden)


class WideStage(nn.Module):
    """Pre-activation blocks. The shared checkpoints keep them one level down, under `layer`."""

    def __init__(self, *blocks: PreActivationBlock) -> None:
        super().__init__()
        self.layer = nn.Sequential(*blocks)

    @property
    def first(self) -> PreActivationBlock:
        return self.layer[0]  # type: ignore[return-value]

    def forward(self, maps: Maps) -> Tensor:
        """Args: maps: the sum that enters, and what the first batch norm makes of it as `before`."""
        hidden = self.first.forward_normalised(maps.after, maps.before)
        for block in self.layer[1:]:
            hidden = block(hidden)
        return hidden


def _normalised_after(stage: WideStage, next_norm: nn.BatchNorm2d, maps: Maps) -> Maps:
    """What a stage gives: its sum, which nothing activates, and what the next batch norm makes of that sum.

    So published losses take the sum as the stage's map, and the normalised sum as the map before the activation.
    """
    hidden = stage(maps)
    return Maps(next_norm(hidden), hidden)


class WideResNet(Staged):
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
    def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> WideStage:
        first = PreActivationBlock(in_channels, channels, stride)
        others = (PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
        return WideStage(first, *others)

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        stages = zip((self.block1, self.block2, self.block3), self.norms_before_activation(), strict=True)
        return [self._stem, *(partial(_normalised_after, stage, norm) for stage, norm in stages)]

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        return [self.block2.first.bn1, self.block3.first.bn1, self.bn1]

    def _stem(self, images: Maps) -> Maps:
        hidden = self.conv1(images.after)
        return Maps(self.block1.first.bn1(hidden), hidden)

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = functional.relu(last.before).mean(dim=(2, 3))
        return self.fc(features), features


def _register(depth: int, width: int) -> None:
    @MODELS.register(f"wrn_{depth}_{width}", source="Zagoruyko & Komodakis, BMVC 2016")
    def build(num_classes: int) -> Model:
        return WideResNet(num_classes, depth, width)

    build.__doc__ = f"Wide ResNet of depth {depth} with {16 * width}, {32 * width} and {64 * width} channels."


for _depth in (16, 40):
    for _width in (1, 2):
        _register(_depth, _width)
