"""Student and teacher networks by name. Every module in this package is imported and registers its models."""

from kdas.models.image_size import check_image_size
from kdas.models.interface import MODELS, Model
from kdas.models.names import BESIDE_THE_ZOO, check_name, create, file_name, source_id
from kdas.parts.registry import import_siblings

import_siblings(__name__, __path__)

__all__ = ["BESIDE_THE_ZOO", "MODELS", "Model", "check_image_size", "check_name", "create", "file_name", "source_id"]
