"""CIFAR ResNets with basic blocks: depth 6n + 2, three stages; `x4` has four times the width.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: He et al., CVPR 2016, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.models.blocks import ResidualStage, activated
from kdas.models.initial import draw_convolutions
from kdas.models.interface import MODELS, Maps, Model, Staged


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def before_activation(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        return torch.add(self.bn2(self.conv2(hidden)), self.downsample(images))

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.before_activation(images))


class CifarResNet(Staged):
    """A stem and three stages of basic blocks, the second and third at half the resolution of the one before.

    Args: depth: 6n + 2; widths: channels of the stem and of the three stages.
    """

    def __init__(self, num_classes: int, depth: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.layer1 = self._stage(blocks, widths[0], widths[1], stride=1)
        self.layer2 = self._stage(blocks, widths[1], widths[2], stride=2)
        self.layer3 = self._stage(blocks, widths[2], widths[3], stride=2)
        self.fc = nn.Linear(widths[3], num_classes)
        draw_convolutions(self)

    @staticmethod
    def _stage(blocks: int, in_channels: int, channels: int, stride: int) -> ResidualStage:
        first = BasicBlock(in_channels, channels, stride)
        return ResidualStage(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        return [self._stem, self.layer1, self.layer2, self.layer3]

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        return [stage[-1].bn2 for stage in (self.layer1, self.layer2, self.layer3)]  # type: ignore[misc]

    def _stem(self, images: Maps) -> Maps:
        return activated(self.bn1(self.conv1(images.after)))

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        # The mean is the published models' pooling for any image size, and its gradient is deterministic.
        features = last.after.mean(dim=(2, 3))
        return self.fc(features), features


def _register(name: str, depth: int, widths: tuple[int, int, int, int]) -> None:
    @MODELS.register(name, source="He et al., CVPR 2016")
    def build(num_classes: int) -> Model:
        return CifarResNet(num_classes, depth, widths)

    build.__doc__ = f"ResNet of depth {depth} with {widths[1]}, {widths[2]} and {widths[3]} channels."


for _depth in (8, 14, 20, 32, 44, 56, 110):
    _register(f"resnet{_depth}", _depth, (16, 16, 32, 64))
for _depth in (8, 32):
    _register(f"resnet{_depth}x4", _depth, (32, 64, 128, 256))
