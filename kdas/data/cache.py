"""Keeps decoded images as plain arrays, so that all workers map one copy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np

from kdas.data.corrupt import check_decoded
from kdas.data.interface import Dataset, Decoded
from kdas.files.cache import cache_root, replaced_whole

# Below this size, decoding again is faster than looking in the cache.
_WORTH_KEEPING_BYTES = 8_000_000
_NAMES = [field.name for field in fields(Decoded)]


def decoded_once(dataset: Dataset) -> Decoded:
    """The decoded set, from the cache if it has an intact copy.

    Raises: UserError: if too many of its images cannot be read.
    """
    # The same files give different pixels at a different size.
    size = "" if dataset.size is None else f"-{dataset.size}px"
    folder = cache_root() / "decoded" / f"{dataset.fingerprint}{size}"
    kept = read(folder)
    decoded = kept or dataset.decode()
    check_decoded(dataset.origin, decoded)
    if kept is None and decoded.train_images.nbytes >= _WORTH_KEEPING_BYTES:
        keep(folder, decoded)
    return decoded


def read(folder: Path) -> Decoded | None:
    """The arrays in a folder; None if one is missing or damaged."""
    try:
        # Copy-on-write: torch accepts the array as writable, and the pages stay shared because nothing writes to them.
        return Decoded(**{name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _NAMES})
    except (OSError, ValueError, EOFError):
        return None


def keep(folder: Path, decoded: Decoded) -> None:
    """Write the arrays, each atomically."""
    for name in _NAMES:
        with replaced_whole(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, getattr(decoded, name), allow_pickle=False)
