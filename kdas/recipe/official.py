"""What the official release sets for a data set, a loss and a pair of models, as one table.

Source: the configuration files and defaults of the KDAS release and of the code that it builds on, mdistiller and
LogitSTD; the latter adds `mlkd`. Weights of `reviewkd` for pairs without a file there are those of its authors' script.
A pair without a row gets what holds for its data set and loss, and otherwise the defaults, which are the release's too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LR, _DECAY = "optimizer.learning_rate", "optimizer.weight_decay"
# The release's names of the networks that a library has under another.
_OF_LIBRARIES = {
    "torchvision/resnet18": "ResNet18",
    "torchvision/resnet34": "ResNet34",
    "torchvision/resnet50": "ResNet50",
    "torchvision/mobilenet_v2": "MobileNet",
    "timm/resnet18": "ResNet18",
    "timm/resnet34": "ResNet34",
    "timm/resnet50": "ResNet50",
    "timm/mobilenetv1_100": "MobileNet",
    "timm/mobilenetv2_100": "MobileNet",
}


@dataclass(frozen=True)
class Row:
    """Values of keys of a trial file, by their dotted path, and whom they hold for; nothing given is everybody."""

    values: Mapping[str, Any]
    losses: str = ""
    teacher: str = ""
    students: str = ""

    def holds(self, loss: str, teacher: str, student: str) -> bool:
        return all(
            not named or name in named.split()
            for named, name in ((self.losses, loss), (self.teacher, teacher), (self.students, student))
        )


# Rows go from the general to the particular: of two that hold, the later one counts.
_EVERYWHERE = (
    Row({"loss.direction": "reverse"}, "kd"),
    Row({"loss.released_sum": True}, "mlkd"),
    Row({"loss.learned_variances": False}, "vid"),
)
_CIFAR = (
    Row({_LR: 0.01}, students="MobileNetV2 ShuffleV1 ShuffleV2"),
    Row({"loss.beta": 6.0}, "dkd", "vgg13", "vgg8 MobileNetV2"),
    Row({"loss.beta": 6.0}, "dkd", "wrn_40_2", "wrn_16_2 wrn_40_1"),
    Row({"loss.beta": 2.0}, "dkd", "resnet56", "resnet20"),
    Row({"loss.beta": 2.0}, "dkd", "resnet110", "resnet32"),
    Row({"kd_weight": 5.0}, "reviewkd", "resnet32x4", "resnet8x4 ShuffleV1"),
    Row({"kd_weight": 8.0}, "reviewkd", "resnet32x4", "ShuffleV2"),
    Row({"kd_weight": 5.0}, "reviewkd", "wrn_40_2", "wrn_16_2 wrn_40_1 ShuffleV1"),
    Row({"kd_weight": 0.6}, "reviewkd", "resnet56", "resnet20"),
    Row({"epochs": 480, _LR: 0.025}, "mlkd"),
    Row({_LR: 0.01}, "mlkd", students="MobileNetV2 ShuffleV1 ShuffleV2"),
    Row({_LR: 0.01}, "mlkd", "vgg13", "vgg8"),
    Row({_LR: 0.005}, "mlkd", "wrn_40_2", "MobileNetV2"),
    Row({"epochs": 960}, "mlkd", "resnet32x4", "ShuffleV1 ShuffleV2"),
)
_IMAGENET = (
    Row({"epochs": 100, "batch_size": 512, _LR: 0.2, _DECAY: 1e-4}),
    Row({"batch_size": 256, _LR: 0.1}, "crd reviewkd"),
    Row({"batch_size": 128, _LR: 0.05}, "ofd"),
    Row({"loss.temperature": 1.0, "ce_weight": 0.5, "kd_weight": 0.5}, "kd mlkd"),
    # Its weight is a part of `kd_weight`: the strong view's cross-entropy counts as much as the weak one's.
    Row({"loss.strong_ce_weight": 1.0}, "mlkd"),
    Row({"loss.temperature": 1.0, "loss.warmup_epochs": 1}, "dkd"),
    Row({"loss.beta": 0.5}, "dkd", "ResNet34", "ResNet18"),
    Row({"loss.beta": 2.0}, "dkd", "ResNet50", "MobileNet"),
    Row({"loss.warmup_epochs": 1}, "reviewkd"),
    Row({"kd_weight": 8.0}, "reviewkd", "ResNet50", "MobileNet"),
    Row({"kd_weight": 1e-4}, "ofd", "ResNet50", "MobileNet"),
)


@dataclass(frozen=True)
class Settings:
    """What the release sets: `top`, `epochs` and `batch_size`; the two weights; keys of `optimizer` and of `loss`."""

    top: Mapping[str, Any]
    weights: Mapping[str, float]
    optimizer: Mapping[str, Any]
    loss: Mapping[str, Any]


def official_settings(content: Mapping[str, Any], loss: str) -> Settings:
    """The settings of the release for one loss, which differ from the defaults.

    Args: content: of a trial or sweep file, of which dataset, teacher and student count; loss: its name.
    """
    is_imagenet = _name(content.get("dataset"), "name").lower() == "imagenet"
    teacher, student = _name(content.get("teacher"), "model"), _name(content.get("student"), "model")
    if is_imagenet:
        teacher, student = _released(teacher), _released(student)
    values: dict[str, Any] = {}
    for row in (*_EVERYWHERE, *(_IMAGENET if is_imagenet else _CIFAR)):
        if row.holds(loss, teacher, student):
            values |= row.values
    weights: dict[str, float] = {key: values.pop(key) for key in ("ce_weight", "kd_weight") if key in values}
    blocks: dict[str, dict[str, Any]] = {"": {}, "optimizer": {}, "loss": {}}
    for path, value in values.items():
        block, _, key = path.rpartition(".")
        blocks[block][key] = value
    return Settings(blocks[""], weights, blocks["optimizer"], blocks["loss"])


def _name(part: Any, key: str) -> str:
    """The name under `key` of a block, as written or as read, or the block itself if it is one; else ""."""
    if isinstance(part, Mapping):
        # `{IMAGENET: {...}}` names a part too.
        named = part.get(key, next(iter(part)) if len(part) == 1 else "")
    else:
        named = getattr(part, key, part)
    return named if isinstance(named, str) else ""


def _released(model: str) -> str:
    """The release's name of a model: weights' tags (`.a1_in1k`) and `@own` do not count."""
    bare = model.partition("@")[0].partition(".")[0]
    return _OF_LIBRARIES.get(bare, "MobileNet" if bare.startswith("MobileNet") else bare)
