"""The ImageNet ResNets on small images: four stages, a 3x3 stem that keeps the resolution, no first pooling.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: He et al., CVPR 2016, table 1; the CIFAR form is that of Tian et al., ICLR 2020 (RepDistiller).
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

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(in_channels, width, stride)

    def before_activation(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        return torch.add(self.bn2(self.conv2(hidden)), self.shortcut(images))

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.before_activation(images))


class Bottleneck(nn.Module):
    """A 3x3 convolution, which has the stride, between two 1x1 ones, with a shortcut."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        channels = self.expansion * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(in_channels, channels, stride)

    def before_activation(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        return torch.add(self.bn3(self.conv3(hidden)), self.shortcut(images))

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.before_activation(images))


def _shortcut(in_channels: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == channels:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


class FourStageResNet(Staged):
    """A stem and four stages, each but the first at half the resolution of the one before.

    Args: block: kind of the residual blocks; depths: blocks in each stage.
    """

    def __init__(
        self, num_classes: int, block: type[BasicBlock] | type[Bottleneck], depths: tuple[int, int, int, int]
    ) -> None:
        super().__init__()
        expansion = block.expansion
        self.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._stage(block, depths[0], 64, 64, stride=1)
        self.layer2 = self._stage(block, depths[1], 64 * expansion, 128, stride=2)
        self.layer3 = self._stage(block, depths[2], 128 * expansion, 256, stride=2)
        self.layer4 = self._stage(block, depths[3], 256 * expansion, 512, stride=2)
        self.linear = nn.Linear(512 * expansion, num_classes)
        draw_convolutions(self)

    @staticmethod
    def _stage(
        block: type[BasicBlock] | type[Bottleneck], depth: int, in_channels: int, width: int, stride: int
    ) -> ResidualStage:
        first = block(in_channels, width, stride)
        return ResidualStage(first, *(block(width * block.expansion, width, 1) for _ in range(depth - 1)))

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        return [self._stem, *self._stages]

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        lasts = [stage[-1] for stage in self._stages]
        return [last.bn3 if isinstance(last, Bottleneck) else last.bn2 for last in lasts]  # type: ignore[misc]

    @property
    def _stages(self) -> tuple[ResidualStage, ...]:
        return self.layer1, self.layer2, self.layer3, self.layer4

    def _stem(self, images: Maps) -> Maps:
        return activated(self.bn1(self.conv1(images.after)))

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = last.after.mean(dim=(2, 3))
        return self.linear(features), features


@MODELS.register("ResNet18", source="He et al., CVPR 2016")
def build_resnet18(num_classes: int) -> Model:
    """ResNet of depth 18 with four stages of basic blocks, 64 to 512 channels."""
    return FourStageResNet(num_classes, BasicBlock, (2, 2, 2, 2))


@MODELS.register("ResNet50", source="He et al., CVPR 2016")
def build_resnet50(num_classes: int) -> Model:
    """ResNet of depth 50 with four stages of bottlenecks, 256 to 2048 channels."""
    return FourStageResNet(num_classes, Bottleneck, (3, 4, 6, 3))
