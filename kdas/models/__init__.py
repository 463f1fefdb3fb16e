"""Student and teacher networks by name. A module beside this one registers its models by being there."""

from kdas.models.plugin import MODELS, Model, create
from kdas.registry import import_siblings

import_siblings(__name__, __path__)

__all__ = ["MODELS", "Model", "create"]
