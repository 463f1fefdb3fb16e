"""CIFAR VGGs with batch normalisation and a single linear layer: five blocks of 3x3 convolutions.

Parameter names are those of the field's shared checkpoints, so that their files load as they are.
Source: Simonyan & Zisserman, ICLR 2015, table 1; the CIFAR form is that of Tian et al., ICLR 2020 (RepDistiller).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from kdas.models.blocks import activated
from kdas.models.initial import draw_convolutions, draw_small
from kdas.models.interface import MODELS, Maps, Model, Staged

WIDTHS = (64, 128, 256, 512, 512)
# Convolutions in each of the five blocks.
DEPTHS = {
    "vgg8": (1, 1, 1, 1, 1),
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


class CifarVGG(Staged):
    """Five blocks, with 2x2 max pooling after each of the first three.

    Args: depths: convolutions in each block.
    """

    def __init__(self, num_classes: int, depths: tuple[int, ...]) -> None:
        super().__init__()
        self.block0 = _block(3, WIDTHS[0], depths[0])
        self.block1 = _block(WIDTHS[0], WIDTHS[1], depths[1])
        self.block2 = _block(WIDTHS[1], WIDTHS[2], depths[2])
        self.block3 = _block(WIDTHS[2], WIDTHS[3], depths[3])
        self.block4 = _block(WIDTHS[3], WIDTHS[4], depths[4])
        self.classifier = nn.Linear(WIDTHS[4], num_classes)
        draw_convolutions(self)
        draw_small(self.classifier)

    def parts(self, image_size: int) -> Sequence[Callable[[Maps], Maps]]:
        # The published form pools a fourth time for Tiny ImageNet's size, and for no other.
        is_pooled = (False, True, True, True, image_size == 64)
        return [partial(_activated, *each) for each in zip(self._blocks, is_pooled, strict=True)]

    def norms_before_activation(self) -> Sequence[nn.BatchNorm2d]:
        return [block[-1] for block in self._blocks[1:]]  # type: ignore[misc]

    @property
    def _blocks(self) -> tuple[nn.Sequential, ...]:
        return self.block0, self.block1, self.block2, self.block3, self.block4

    def head(self, last: Maps) -> tuple[Tensor, Tensor]:
        features = last.after.mean(dim=(2, 3))
        return self.classifier(features), features


def _activated(block: nn.Sequential, is_pooled: bool, maps: Maps) -> Maps:
    """What a block gives. Args: is_pooled: whether it halves the resolution first."""
    hidden = functional.max_pool2d(maps.after, 2) if is_pooled else maps.after
    return activated(block(hidden))


def _block(in_channels: int, channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(depth):
        convolution = nn.Conv2d(in_channels if number == 0 else channels, channels, 3, padding=1)
        layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU()]
    # The last ReLU is left to the model, because peers expose what comes before it.
    return nn.Sequential(*layers[:-1])


def _register(name: str, depths: tuple[int, ...]) -> None:
    @MODELS.register(name, source="Simonyan & Zisserman, ICLR 2015")
    def build(num_classes: int) -> Model:
        return CifarVGG(num_classes, depths)

    build.__doc__ = f"VGG with {sum(depths)} convolutions, each with batch normalisation, and one linear layer."


for _name, _depths in DEPTHS.items():
    _register(_name, _depths)
