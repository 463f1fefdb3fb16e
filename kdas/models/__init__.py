"""Student and teacher networks by name."""

from kdas.models import resnet as _resnet  # noqa: F401 (registers its models)
from kdas.models.plugin import MODELS, Model, create

__all__ = ["MODELS", "Model", "create"]
