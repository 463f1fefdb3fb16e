"""Accuracies that others have published for a pair of models, to print beside ours, marked as theirs."""

from __future__ import annotations

from dataclasses import dataclass

_SOURCE = "Chae & Heo, ICCV 2025"
_METHODS = ("KD", "DKD", "KD+LogitSTD", "KD+LogitSTD+KDAS")
# Top-1 test accuracy on CIFAR-100 in percent: of the methods in their order.
_CIFAR100 = {
    "resnet32x4->wrn_16_2": (74.90, 75.70, 75.26, 75.34),
    "resnet32x4->wrn_40_2": (77.70, 78.46, 77.92, 79.10),
    "wrn_40_2->resnet8x4": (73.97, 75.56, 77.11, 77.50),
    "vgg13->vgg8": (72.98, 74.68, 74.36, 74.63),
    "wrn_40_2->wrn_40_1": (73.54, 74.81, 74.37, 74.49),
    "resnet56->resnet20": (70.66, 71.97, 71.43, 71.67),
    "resnet110->resnet32": (73.08, 74.11, 74.17, 74.43),
    "resnet110->resnet20": (70.67, 71.06, 71.48, 71.58),
}


@dataclass(frozen=True)
class Published:
    """`accuracy` of a method as a fraction, and where it was published."""

    method: str
    accuracy: float
    source: str


def published(dataset: str, pair: str) -> list[Published]:
    """What is known of a data set and a pair, no rows if nothing is."""
    if dataset != "cifar100" or pair not in _CIFAR100:
        return []
    both = zip(_METHODS, _CIFAR100[pair], strict=True)
    return [Published(method, accuracy / 100, _SOURCE) for method, accuracy in both]
