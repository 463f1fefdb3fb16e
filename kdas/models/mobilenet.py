"""MobileNetV2 of half width for small images: inverted residuals with an expansion factor of 6.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: Sandler et al., CVPR 2018, table 2; strides and widths of the CIFAR form: Tian et al., ICLR 2020 (RepDistiller).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from kdas.models.initial import draw_convolutions, draw_small
from kdas.models.interface import MODELS, Maps, Model, Staged

STEM_CHANNELS, LAST_CHANNELS = 16, 1280
# Of each stage: expansion factor, channels, blocks, stride of the first block.
STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
# The stages in groups: published losses take the map at the end of each group.
GROUPS = ((0, 2), (2, 3), (3, 5), (5, 7))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel separately, project without activation; a shortcut if shapes agree."""

    def __init__(self, in_channels: int, channels: int, stride: int, widening: int) -> None:
        super().__init__()
        width = in_channels * widening
        self.conv = nn.Sequential(
            *_activated(in_channels, width, 1),
            *_activated(width, width, 3, stride, groups=width),
            nn.Conv2d(width, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.has_shortcut = stride == 1 and in_channels == channels

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.conv(images)
        return images + hidden if self.has_shortcut else hidden


class HalfMobileNetV2(Staged):
    """A stem that halves the resolution, seven stages, and a last 1x1 convolution of full width."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = _activated(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = nn.Sequential()
        in_channels = STEM_CHANNELS
        for widening, channels, depth, stride in STAGES:
            first = InvertedResidual(in_channels, channels, stride, widening)
            others = (InvertedResidual(channels, channels, 1, widening) for _ in range(depth - 1))
            self.blocks.append(nn.Sequential(first, *others))
            in_channels = channels
        self.conv2 = _activated(in_channels, LAST_CHANNELS, 1)
        classifier = nn.Linear(LAST_CHANNELS, num_classes)
        self.classifier = nn.Sequential(classifier)
        draw_convolutions(self)
        draw_small(classifier)

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        stages = [*self.blocks]
        return [partial(_through, [self.conv1]), *(partial(_through, stages[first:end]) for first, end in GROUPS)]

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        return [self.blocks[end - 1][-1].conv[-1] for _, end in GROUPS]  # type: ignore[index]

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = self.conv2(last.after).mean(dim=(2, 3))
        return self.classifier(features), features


def _through(modules: Sequence[nn.Module], maps: Maps) -> Maps:
    """The map after the modules, twice: a stage ends without an activation."""
    hidden = maps.after
    for module in modules:
        hidden = module(hidden)
    return Maps(hidden, hidden)


def _activated(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


@MODELS.register("MobileNetV2", source="Sandler et al., CVPR 2018")
def build(num_classes: int) -> Model:
    """MobileNetV2 of half width, with inverted residuals that expand six times."""
    return HalfMobileNetV2(num_classes)
