"""Classifiers of torchvision and timm as `torchvision/<name>` and `timm/<name>`, without weights, under their names."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn

from kdas.errors import nearest
from kdas.models.interface import Model
from kdas.models.tapped import tapped

# Their auxiliary heads are built so that torchvision's files fit, but not trained. init_weights must be set for them.
_WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}


def has(name: str) -> bool:
    """Whether a name is that of a library's classifier, known or not."""
    return name.partition("/")[0] in _LIBRARIES and "/" in name


def check(name: str) -> str:
    """`name`, if its library has a classifier of that name.

    Raises: ValueError: names the nearest one, or says that the library is not installed.
    """
    library, _, classifier = name.partition("/")
    known = _LIBRARIES[library][0]()
    # timm's names may end with the name of published weights, as in resnet18.a1_in1k.
    if classifier not in known and classifier.partition(".")[0] not in known:
        raise ValueError(f"{library} has no classifier {classifier!r}. {nearest(classifier, known)}")
    return name


def build(name: str, num_classes: int) -> Model:
    """A freshly initialised classifier; `check_image_size` tells whether it takes an image size."""
    library, _, classifier = check(name).partition("/")
    return tapped(_LIBRARIES[library][1](classifier, num_classes), num_classes)


def _of_torchvision() -> list[str]:
    models = _imported("torchvision.models")
    # Limited to this module, or detectors and segmenters would be listed too.
    return list(models.list_models(module=models))


def _from_torchvision(name: str, num_classes: int) -> nn.Module:
    extra = {"init_weights": True, "aux_logits": True} if name in _WITH_AUXILIARY_HEADS else {}
    network: nn.Module = _imported("torchvision.models").get_model(name, weights=None, num_classes=num_classes, **extra)
    return network


def _of_timm() -> list[str]:
    return list(_imported("timm").list_models())


def _from_timm(name: str, num_classes: int) -> nn.Module:
    # Never a download: a file of weights is named by `checkpoint`.
    network: nn.Module = _imported("timm").create_model(name, pretrained=False, num_classes=num_classes)
    return network


_LIBRARIES: dict[str, tuple[Callable[[], list[str]], Callable[[str, int], nn.Module]]] = {
    "torchvision": (_of_torchvision, _from_torchvision),
    "timm": (_of_timm, _from_timm),
}


def _imported(module: str) -> Any:
    # They take seconds to import, and most trials do not need them.
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"of {module} needs {module}. Install it: pip install 'kdas-sweeps[{module}]'") from error
