"""Files of tensors: written whole, read without executing anything, refused in one line when damaged."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdas.cache import replaced_whole
from kdas.records import UserError


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; readers see the old file until the new one is whole."""
    with replaced_whole(path) as temporary:
        torch.save(dict(content), temporary)


def load(path: Path) -> Any:
    """What `save`, or a peer's trainer, wrote.

    Raises: UserError: if the file is missing, damaged, or holds more than tensors and plain values.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such checkpoint. Give the path of a .pth file.") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{path}: is damaged, or not a checkpoint of tensors and plain values. Copy it again."
        ) from error


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Fill a model from a checkpoint of our own or of peers' layout (weights under `model`, or bare).

    Raises: UserError: if the weights are those of another architecture; names the first difference.
    """
    content = load(path)
    weights = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path}: holds no weights (a mapping of names to tensors, bare or under `model`).")
    difference = _first_difference(model.state_dict(), weights)
    if difference:
        raise UserError(f"{path}: is not a {name}: {difference}. Name the model the file was made from.")
    model.load_state_dict(dict(weights))


def _first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    for key, tensor in expected.items():
        if key not in given:
            return f"{key} is missing"
        if given[key].shape != tensor.shape:
            return f"{key} has shape {list(given[key].shape)}, not {list(tensor.shape)}"
    return next((f"{key} is not part of that model" for key in given if key not in expected), "")
