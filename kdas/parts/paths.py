"""Resolves the paths in a trial or sweep file, which are relative to that file."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import AfterValidator

from kdas.errors import brief
from kdas.files.home import expanded
from kdas.parts.reading import refused

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
# The keys of a path, by the block that they are in; "" for a block that is a path itself.
_PATH_KEYS = {
    "dataset": "path",
    "teacher": "checkpoint",
    "student": "checkpoint",
    "student_checkpoint": "",
    "reference": "reference",  # of a sampler, in whatever block that is
}


def _local(kind: str) -> AfterValidator:
    def checked(path: str | None) -> str | None:
        if path is not None and is_address(path):
            raise refused(f"expected a {kind} on this machine, got {brief(path)}. Download it, and give the {kind}.")
        return path

    return AfterValidator(checked)


# Validators of a key that takes a path.
LOCAL_FILE, LOCAL_FOLDER = _local("file"), _local("folder")


def with_paths_found(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A file's content, cells included, with full paths of data sets and checkpoints.

    An address with `://` stays as it is: the schema refuses it.

    Args: folder: of the file. What is not there but is in the working directory is meant there, as it once was.
    """
    return {key: _found(value, folder, str(key).lower()) for key, value in content.items()}


def is_address(path: str) -> bool:
    """Whether a path is an address on the network, such as `https://...`."""
    return bool(_ADDRESS.match(path.strip()))


def _found(value: Any, folder: Path, block: str, key: str = "") -> Any:
    """Args: block: the innermost block of `_PATH_KEYS` that the value is in, or else a key; key: its own."""
    if isinstance(value, Mapping):
        return {
            each: _found(inner, folder, block if block in _PATH_KEYS else str(each).lower(), str(each).lower())
            for each, inner in value.items()
        }
    if isinstance(value, list):
        return [_found(inner, folder, block) for inner in value]
    if isinstance(value, str) and value.strip() and _PATH_KEYS.get(block) == key:
        return place(value, folder)
    return value


def place(path: str, folder: Path) -> str:
    """The full path that a file in `folder` means: below it, or in the working directory if it is there alone."""
    if is_address(path):
        return path
    given = str(expanded(path))
    beside, here = (str((base / given).absolute()) for base in (folder, Path()))
    # Not the methods of a path, which raise for a name that no file can have.
    return here if os.path.exists(here) and not os.path.exists(beside) else beside  # noqa: PTH110
