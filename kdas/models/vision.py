"""Torchvision's classifiers as `torchvision/<name>`, without weights and under torchvision's own parameter names."""

from __future__ import annotations

from typing import Any

from kdas.errors import nearest
from kdas.models.interface import Model
from kdas.models.tapped import tapped

PREFIX = "torchvision/"
# Their auxiliary heads are built, so that torchvision's files fit, and not trained. Their draw must be asked for.
_WITH_AUXILIARY_HEADS = {f"{PREFIX}googlenet", f"{PREFIX}inception_v3"}


def check(name: str) -> str:
    """`name`, if torchvision has a classifier of that name. Raises: ValueError: names the nearest one."""
    models = _torchvision_models()
    # Asked for by its module, or detectors and segmenters would be among them.
    known = models.list_models(module=models)
    classifier = name.removeprefix(PREFIX)
    if classifier not in known:
        raise ValueError(f"torchvision has no classifier {classifier!r}. {nearest(classifier, known)}")
    return name


def build(name: str, num_classes: int) -> Model:
    """A freshly drawn classifier of torchvision; what image sizes it takes, `check_image_size` can tell."""
    extra: dict[str, Any] = {"init_weights": True, "aux_logits": True} if check(name) in _WITH_AUXILIARY_HEADS else {}
    network = _torchvision_models().get_model(name.removeprefix(PREFIX), weights=None, num_classes=num_classes, **extra)
    return tapped(network, num_classes)


def _torchvision_models() -> Any:
    # It takes seconds to import, and most trials never ask for it.
    from torchvision import models

    return models
