"""Files of tensors: written atomically, read without executing anything, refused in one line when damaged."""

from __future__ import annotations

import argparse
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from kdas.errors import UserError
from kdas.files import archive
from kdas.files.cache import replaced_whole

# Peers' checkpoints also hold an accuracy, which may be a NumPy scalar, and the options of their command line.
# Both are plain data once read. NumPy 1 wrote the scalar under another module's name.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{package}.multiarray.scalar") for package in ("core", "_core")),
]


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; readers see the old file until the new one is complete."""
    with replaced_whole(path) as temporary:
        torch.save(dict(content), temporary)


def previous(path: Path) -> Path:
    """Where `save_and_keep_previous` keeps the previous checkpoint."""
    return path.with_name(f"{path.name}.previous")


def save_and_keep_previous(path: Path, content: Mapping[str, Any]) -> None:
    """Write as `save` does, and keep the previous checkpoint beside the new one."""
    with replaced_whole(path) as temporary:
        torch.save(dict(content), temporary)
        if path.exists():
            path.replace(previous(path))


def load_newest_whole(path: Path) -> Any:
    """The newest checkpoint, or the previous one if the newest is damaged or missing.

    Returns: None if there is no checkpoint.
    Raises: UserError: if all of them are damaged.
    """
    if not path.exists():
        return load(previous(path)) if previous(path).exists() else None
    try:
        return load(path)
    except UserError:
        if not previous(path).exists():
            raise
        content = load(previous(path))
        warnings.warn(f"{path}: is damaged; resuming from the previous checkpoint.", stacklevel=2)
        return content


def load(path: Path) -> Any:
    """What `save`, or a peer's trainer, wrote.

    Raises: UserError: if the file is missing, damaged, or holds more than tensors and plain values.
    """
    return _loaded(path, str(path))


def is_whole(path: Path) -> bool:
    """Whether a file is there and can be loaded."""
    try:
        load(path)
    except UserError:
        return False
    return True


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a checkpoint, ours or in peers' layout (weights under `model`, or bare), into a model.

    Args: path: a .pth file, or a tar in peers' layout with a checkpoint of `name`.
    Raises: UserError: if the weights belong to another architecture; names the first difference.
    """
    where, content = _named_checkpoint(path, name)
    weights = content.get("model", content) if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{where}: contains no weights. Save a mapping of names to tensors, bare or under `model`.")
    difference = _first_difference(model.state_dict(), weights)
    if difference:
        raise UserError(f"{where}: does not fit {name}: {difference}. Name the model that this file was made from.")
    model.load_state_dict(dict(weights))


def _named_checkpoint(path: Path, name: str) -> tuple[str, Any]:
    """Where the checkpoint of the model `name` is, for messages, and its content."""
    if not archive.is_archive(path):
        return str(path), load(path)
    member, file = archive.read_member(path, name)
    where = f"{path}: {member}"
    return where, _loaded(file, where)


def _loaded(file: Path | BinaryIO, where: str) -> Any:
    try:
        _check_sums(file)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such checkpoint. Give the path of a .pth file.") from error
    except MemoryError:
        raise  # the file may be intact
    except Exception as error:
        raise UserError(
            f"{where}: is damaged, or not a checkpoint of tensors and plain values. Copy it again."
        ) from error


def _check_sums(file: Path | BinaryIO) -> None:
    """Verify a zip's checksums, which PyTorch does not. Raises: BadZipFile: if one is wrong."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as records:
            damaged = records.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"the record {damaged} is damaged")
    if not isinstance(file, Path):
        file.seek(0)


def _first_difference(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    for key, tensor in expected.items():
        if key not in given:
            return f"{key} is missing"
        if given[key].shape != tensor.shape:
            return f"{key} has shape {list(given[key].shape)}, not {list(tensor.shape)}"
    return next((f"{key} is not part of this model" for key in given if key not in expected), "")
