"""Files of tensors: written atomically, read without executing anything, rejected in one line if damaged."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdas.errors import UnreadableError, UserError
from kdas.files import archive, torch_file
from kdas.files.cache import replaced_whole


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; readers see the old file until the new one is complete."""
    with replaced_whole(path) as temporary:
        write(temporary, content)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values into a file of the caller's, who sees to it that readers find it whole."""
    # PyTorch does not say why it could not write a file, and we treat a full disk differently from other faults.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    path.write_bytes(buffer.getbuffer())


def previous(path: Path) -> Path:
    """Path of the checkpoint before the newest, as `save_and_keep_previous` keeps it."""
    return path.with_name(f"{path.name}.previous")


def save_and_keep_previous(path: Path, content: Mapping[str, Any]) -> None:
    """Write as `save` does, and keep the previous checkpoint beside the new one."""
    with replaced_whole(path) as temporary:
        write(temporary, content)
        if path.exists():
            path.replace(previous(path))


def load_newest_intact(path: Path) -> Any:
    """Load the newest checkpoint of `save_and_keep_previous`, or the previous one if that is damaged or missing.

    Returns: the content; None if there is no checkpoint.
    Raises: UnreadableError: of the newest, which may be intact; UserError: if no checkpoint can be loaded.
    """
    if not path.exists():
        return load(previous(path)) if previous(path).exists() else None
    try:
        return load(path)
    except UnreadableError:
        raise
    except UserError:
        if not previous(path).exists():
            raise
        content = load(previous(path))
        warnings.warn(f"{path}: is damaged; resuming from the previous checkpoint.", stacklevel=2)
        return content


def load(path: Path) -> Any:
    """Load what `save` wrote.

    Raises: UnreadableError; UserError: if the file is missing, damaged, or contains more than tensors and plain values.
    """
    with archive.open_file(path) as file:
        try:
            content = file.read()
        except OSError as error:
            raise UnreadableError(path, error) from error
    # Read from memory: PyTorch and zipfile say the same of a failing disk as of damage.
    return torch_file.read_ours(io.BytesIO(content), str(path))


def is_intact(path: Path) -> bool:
    """Whether a file exists and is as it was written. Raises: UnreadableError."""
    try:
        load(path)
    except UnreadableError:
        raise
    except UserError:
        return False
    return True
