"""Torchvision's classifiers as `torchvision/<name>`, without weights and under torchvision's own parameter names."""

from __future__ import annotations

from typing import Any

from kdas.errors import nearest
from kdas.models.interface import Model
from kdas.models.tapped import tapped

PREFIX = "torchvision/"
# Their auxiliary heads are built so that torchvision's files fit, but not trained. init_weights must be set for them.
_WITH_AUXILIARY_HEADS = {f"{PREFIX}googlenet", f"{PREFIX}inception_v3"}


def check(name: str) -> str:
    """`name`, if torchvision has a classifier of that name. Raises: ValueError: names the nearest one."""
    models = _torchvision_models()
    # Limited to this module, or detectors and segmenters would be listed too.
    known = models.list_models(module=models)
    classifier = name.removeprefix(PREFIX)
    if classifier not in known:
        raise ValueError(f"torchvision has no classifier {classifier!r}. {nearest(classifier, known)}")
    return name


def build(name: str, num_classes: int) -> Model:
    """A freshly initialised classifier of torchvision; `check_image_size` tells whether it takes an image size."""
    extra: dict[str, Any] = {"init_weights": True, "aux_logits": True} if check(name) in _WITH_AUXILIARY_HEADS else {}
    network = _torchvision_models().get_model(name.removeprefix(PREFIX), weights=None, num_classes=num_classes, **extra)
    return tapped(network, num_classes)


def _torchvision_models() -> Any:
    # It takes seconds to import, and most trials do not need it.
    from torchvision import models

    return models
