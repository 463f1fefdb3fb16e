"""Classifiers of torchvision and timm as `torchvision/<name>` and `timm/<name>`, without weights, under their names.

With `@own` at its end, such a name stands for the classifier with its own input: images are resized and normalised as
its published weights expect, whatever the size and the statistics of the data.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from kdas.errors import nearest
from kdas.models.interface import Model
from kdas.models.tapped import Expected, tapped

# Their auxiliary heads are built so that torchvision's files fit, but not trained. init_weights must be set for them.
_WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}


OWN_INPUT = "@own"


def has(name: str) -> bool:
    """Whether a name is that of a library's classifier, known or not."""
    return name.partition("/")[0] in _LIBRARIES and "/" in name


def check(name: str) -> str:
    """`name`, if its library has a classifier of that name.

    Raises: ValueError: names the nearest one, or says that the library is not installed.
    """
    library, classifier = _parts(name)
    known = library.names()
    # timm's names may end with the name of published weights, as in resnet18.a1_in1k.
    if classifier not in known and classifier.partition(".")[0] not in known:
        raise ValueError(f"{library.name} has no classifier {classifier!r}. {nearest(classifier, known)}")
    if name.endswith(OWN_INPUT):
        _expected(library, classifier)
    return name


def build(name: str, num_classes: int) -> Model:
    """A freshly initialised classifier; `check_image_size` tells whether it takes an image size."""
    library, classifier = _parts(check(name))
    expected = _expected(library, classifier) if name.endswith(OWN_INPUT) else None
    return tapped(library.build(classifier, num_classes), num_classes, expected)


def _parts(name: str) -> tuple[_Library, str]:
    library, _, classifier = name.removesuffix(OWN_INPUT).partition("/")
    return _LIBRARIES[library], classifier


def _expected(library: _Library, classifier: str) -> Expected:
    expected = library.expected(classifier)
    if expected is None:
        name = f"{library.name}/{classifier}"
        raise ValueError(
            f"{name}{OWN_INPUT}: {library.name} has published no weights of {classifier}, so its input is not known."
            f" Write {name}"
        )
    return expected


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


def _expected_by_torchvision(name: str) -> Expected | None:
    weights = list(_imported("torchvision.models").get_model_weights(name))
    if not weights:
        return None
    transforms = weights[-1].transforms()
    return Expected(transforms.crop_size[0], tuple(transforms.mean), tuple(transforms.std))


def _expected_by_timm(name: str) -> Expected | None:
    published = _imported("timm.models").get_pretrained_cfg(name)
    if published is None:
        return None
    return Expected(published.input_size[-1], tuple(published.mean), tuple(published.std))


@dataclass(frozen=True)
class _Library:
    name: str
    names: Callable[[], list[str]]
    build: Callable[[str, int], nn.Module]
    expected: Callable[[str], Expected | None]


_LIBRARIES = {
    each.name: each
    for each in (
        _Library("torchvision", _of_torchvision, _from_torchvision, _expected_by_torchvision),
        _Library("timm", _of_timm, _from_timm, _expected_by_timm),
    )
}


def _imported(module: str) -> Any:
    # They take seconds to import, and most trials do not need them.
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"of {module} needs {module}. Install it: pip install 'kdas-sweeps[{module}]'") from error
