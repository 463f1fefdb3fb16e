"""Keeps decoded images as plain arrays, so that all workers map one copy."""

from __future__ import annotations

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np

from kdas.data.corrupt import check_decoded
from kdas.data.interface import Dataset, Decoded
from kdas.files.cache import cache_root, file_id, replaced_whole, write_text
from kdas.files.full import going_without

# Below this size, decoding again is faster than looking in the cache.
_WORTH_KEEPING_BYTES = 8_000_000
_NAMES = [field.name for field in fields(Decoded)]
_CHECKSUMS = "checksums.json"


def decoded_once(dataset: Dataset) -> Decoded:
    """The decoded set, from the cache if it has an intact copy.

    Raises: UserError: if too many of its images cannot be read.
    """
    folder = folder_of(dataset)
    kept = read(folder)
    decoded = kept or dataset.decode()
    check_decoded(dataset.origin, decoded)
    if kept is None and decoded.train_images.nbytes >= _WORTH_KEEPING_BYTES:
        with going_without(folder):
            keep(folder, decoded)
    return decoded


def folder_of(dataset: Dataset) -> Path:
    """Where a decoded set is kept: the same files give other images at another size, or fewer."""
    size = "" if dataset.size is None else f"-{dataset.size}px"
    most = "" if dataset.max_samples is None else f"-{dataset.max_samples}"
    return cache_root() / "decoded" / f"{dataset.fingerprint}{size}{most}"


def read(folder: Path) -> Decoded | None:
    """The arrays in a folder; None if there are none. A damaged copy is none either, which a warning says.

    All of it is read once and compared with its checksums: 180 MB, a set like CIFAR, in a fifth of a second. So a
    process that maps the arrays knows that they are what was decoded.
    """
    try:
        known = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None  # nothing is kept, or a version without checksums wrote it
    except (OSError, ValueError, RecursionError):
        known = None
    try:
        if known == _checksums(folder):
            # Copy-on-write: torch accepts the array as writable, and the pages stay shared because nothing writes.
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in _NAMES}
            return Decoded(**arrays)
    except (OSError, ValueError, EOFError):
        pass
    warnings.warn(f"{folder}: the copy of the decoded images is damaged. Decoding them again.", stacklevel=2)
    return None


def keep(folder: Path, decoded: Decoded) -> None:
    """Write the arrays, each atomically, and last what they are compared with."""
    for name in _NAMES:
        with replaced_whole(folder / f"{name}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, getattr(decoded, name), allow_pickle=False)
    write_text(folder / _CHECKSUMS, json.dumps(_checksums(folder)))


def _checksums(folder: Path) -> dict[str, str]:
    # Hashing releases the interpreter's lock.
    with ThreadPoolExecutor() as pool:
        return dict(zip(_NAMES, pool.map(lambda name: file_id(folder / f"{name}.npy"), _NAMES), strict=True))
