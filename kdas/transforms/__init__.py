"""Batch transforms: what stands between a view and the models."""

from kdas.parts.registry import import_siblings
from kdas.transforms.interface import TRANSFORMS, Mixed, Transform, TransformContext, TransformNeed, ViewBatch
from kdas.transforms.pipeline import Pipeline

import_siblings(__name__, __path__)

__all__ = [
    "TRANSFORMS",
    "Mixed",
    "Pipeline",
    "Transform",
    "TransformContext",
    "TransformNeed",
    "ViewBatch",
]
