"""ShuffleNets for small images: grouped 1x1 convolutions, and a channel shuffle that mixes the groups.

Both have a 1x1 stem that keeps the resolution and start every stage with a block that halves it.
Parameter names are those of the field's shared checkpoints, so that their files load as they are. Initial weights are
the field's too: torch's defaults.
Source: V1: Zhang et al., CVPR 2018; V2: Ma et al., ECCV 2018; CIFAR forms: Tian et al., ICLR 2020 (RepDistiller).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.models.blocks import ResidualStage, activated
from kdas.models.interface import MODELS, Maps, Model, Staged

STEM_CHANNELS = 24
V1_GROUPS = 3
# Channels and blocks of each stage.
V1_STAGES = ((240, 4), (480, 8), (960, 4))
V2_STAGES = ((116, 4), (232, 8), (464, 4))
V2_LAST_CHANNELS = 1024


def _pointwise(in_channels: int, channels: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 1, groups=groups, bias=False)


def _depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


class GroupBlock(nn.Module):
    """V1: two grouped 1x1 convolutions around a depthwise one; the shortcut is added, or appended if it halves."""

    def __init__(self, in_channels: int, channels: int, *, halves: bool) -> None:
        super().__init__()
        # The stem has too few channels to be split, and an appended shortcut brings its own.
        self.groups = 1 if in_channels == STEM_CHANNELS else V1_GROUPS
        width = channels - in_channels if halves else channels
        narrow = width // 4
        self.halves = halves
        self.conv1 = _pointwise(in_channels, narrow, self.groups)
        self.bn1 = nn.BatchNorm2d(narrow)
        self.conv2 = _depthwise(narrow, stride=2 if halves else 1)
        self.bn2 = nn.BatchNorm2d(narrow)
        self.conv3 = _pointwise(narrow, width, V1_GROUPS)
        self.bn3 = nn.BatchNorm2d(width)

    def before_activation(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = functional.channel_shuffle(hidden, self.groups)
        hidden = functional.relu(self.bn2(self.conv2(hidden)))
        hidden = self.bn3(self.conv3(hidden))
        if self.halves:
            shortcut = functional.avg_pool2d(images, 3, stride=2, padding=1)
            return torch.cat([hidden, shortcut], dim=1)
        return torch.add(hidden, images)

    def forward(self, images: Tensor) -> Tensor:
        return functional.relu(self.before_activation(images))


class ShuffleNetV1(Staged):
    """A stem and three stages of group blocks."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage(STEM_CHANNELS, *V1_STAGES[0])
        self.layer2 = self._stage(V1_STAGES[0][0], *V1_STAGES[1])
        self.layer3 = self._stage(V1_STAGES[1][0], *V1_STAGES[2])
        self.linear = nn.Linear(V1_STAGES[2][0], num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, depth: int) -> ResidualStage:
        first = GroupBlock(in_channels, channels, halves=True)
        return ResidualStage(first, *(GroupBlock(channels, channels, halves=False) for _ in range(depth - 1)))

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        return [self._stem, self.layer1, self.layer2, self.layer3]

    def _stem(self, images: Maps) -> Maps:
        return activated(self.bn1(self.conv1(images.after)))

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = last.after.mean(dim=(2, 3))
        return self.linear(features), features


class SplitBlock(nn.Module):
    """V2: the first half of the channels passes, the second is convolved, and a shuffle mixes the two."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = _pointwise(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = _depthwise(half, stride=1)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(half, half)
        self.bn3 = nn.BatchNorm2d(half)

    def forward(self, images: Tensor) -> Tensor:
        return self.joined(*self.halves(images))

    def halves(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The half that passes, and the convolved half before its activation."""
        passed, hidden = images.chunk(2, dim=1)
        hidden = functional.relu(self.bn1(self.conv1(hidden)))
        hidden = self.bn2(self.conv2(hidden))
        return passed, self.bn3(self.conv3(hidden))

    @staticmethod
    def joined(passed: Tensor, hidden: Tensor) -> Tensor:
        """Both halves, the second activated, with their channels shuffled."""
        return functional.channel_shuffle(torch.cat([passed, functional.relu(hidden)], dim=1), 2)


class HalvingBlock(nn.Module):
    """V2: two branches over all channels, each with a depthwise convolution of stride 2, and a shuffle."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = _depthwise(in_channels, stride=2)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = _pointwise(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = _pointwise(in_channels, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = _depthwise(half, stride=2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = _pointwise(half, half)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, images: Tensor) -> Tensor:
        left = functional.relu(self.bn2(self.conv2(self.bn1(self.conv1(images)))))
        right = functional.relu(self.bn3(self.conv3(images)))
        right = functional.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return functional.channel_shuffle(torch.cat([left, right], dim=1), 2)


class ShuffledStage(nn.Sequential):
    """V2: blocks, of which the last is split. Its published map before the activation is not shuffled."""

    def forward(self, maps: Maps) -> Maps:
        hidden = maps.after
        last: Any
        *others, last = self
        for block in others:
            hidden = block(hidden)
        passed, half = last.halves(hidden)
        return Maps(torch.cat([passed, half], dim=1), last.joined(passed, half))


class ShuffleNetV2(Staged):
    """A stem, three stages of split blocks, and a last 1x1 convolution."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _pointwise(3, STEM_CHANNELS)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS)
        self.layer1 = self._stage(STEM_CHANNELS, *V2_STAGES[0])
        self.layer2 = self._stage(V2_STAGES[0][0], *V2_STAGES[1])
        self.layer3 = self._stage(V2_STAGES[1][0], *V2_STAGES[2])
        self.conv2 = _pointwise(V2_STAGES[2][0], V2_LAST_CHANNELS)
        self.bn2 = nn.BatchNorm2d(V2_LAST_CHANNELS)
        self.linear = nn.Linear(V2_LAST_CHANNELS, num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, depth: int) -> ShuffledStage:
        return ShuffledStage(HalvingBlock(in_channels, channels), *(SplitBlock(channels) for _ in range(depth - 1)))

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        return [self._stem, self.layer1, self.layer2, self.layer3]

    def _stem(self, images: Maps) -> Maps:
        return activated(self.bn1(self.conv1(images.after)))

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = functional.relu(self.bn2(self.conv2(last.after))).mean(dim=(2, 3))
        return self.linear(features), features


@MODELS.register("ShuffleV1", source="Zhang et al., CVPR 2018")
def build_v1(num_classes: int) -> Model:
    """ShuffleNet V1 with three groups, 240 to 960 channels."""
    return ShuffleNetV1(num_classes)


@MODELS.register("ShuffleV2", source="Ma et al., ECCV 2018")
def build_v2(num_classes: int) -> Model:
    """ShuffleNet V2 of size 1, 116 to 464 channels."""
    return ShuffleNetV2(num_classes)
