"""Files of tensors: written atomically, read without executing anything, refused in one line when damaged."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kdas.errors import UserError
from kdas.files import archive, torch_file
from kdas.files.cache import replaced_whole


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values; readers see the old file until the new one is complete."""
    with replaced_whole(path) as temporary:
        _write(temporary, content)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    # PyTorch itself does not say why a file could not be written: a full disk is to be told from other faults.
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    path.write_bytes(buffer.getbuffer())


def previous(path: Path) -> Path:
    """Where `save_and_keep_previous` keeps the checkpoint before the newest."""
    return path.with_name(f"{path.name}.previous")


def save_and_keep_previous(path: Path, content: Mapping[str, Any]) -> None:
    """Write as `save` does; the checkpoint before stays beside the new one."""
    with replaced_whole(path) as temporary:
        _write(temporary, content)
        if path.exists():
            path.replace(previous(path))


def load_newest_whole(path: Path) -> Any:
    """What `save_and_keep_previous` wrote last, or before that where the newest is damaged or missing.

    Returns: None if there is none.
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
    """What `save` wrote.

    Raises: UserError: if the file is missing, damaged, or contains more than tensors and plain values.
    """
    with archive.open_file(path) as file:
        return torch_file.read_ours(file, str(path))


def is_whole(path: Path) -> bool:
    """Whether a file is there and can be loaded."""
    try:
        load(path)
    except UserError:
        return False
    return True
