"""CIFAR-10 and CIFAR-100: torchvision's copies, downloaded when absent, or a local parquet copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kdas.data.interface import DATASETS, Dataset, Decoded, resolved_path
from kdas.data.parquet import parquet_folder
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, file_id, writable_folder

DataPath = Annotated[
    str | None, Field(description="Folder of a local copy: torchvision's layout, or train*.parquet and test*.parquet.")
]
# The normalisation that the field's shared CIFAR-100 checkpoints were trained with.
_CIFAR100_MEAN, _CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@DATASETS.register("cifar10", source="Krizhevsky, 2009")
def cifar10(*, path: DataPath = None) -> Dataset:
    """60,000 photographs of 32x32 pixels in 10 classes."""
    return _cifar("cifar10", "CIFAR10", path, num_classes=10)


@DATASETS.register("cifar100", source="Krizhevsky, 2009")
def cifar100(*, path: DataPath = None) -> Dataset:
    """60,000 photographs of 32x32 pixels in 100 classes."""
    return _cifar("cifar100", "CIFAR100", path, num_classes=100, mean=_CIFAR100_MEAN, std=_CIFAR100_STD)


def _published(class_name: str) -> Any:
    # torchvision takes seconds to load and few sweeps need it.
    import torchvision.datasets

    return getattr(torchvision.datasets, class_name)


def _cifar(name: str, class_name: str, path: str | None, *, num_classes: int, **statistics: Any) -> Dataset:
    folder = resolved_path(path, cache_root() / "downloads")
    if path and not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Put {name} there, or give DATA=<folder>.")
    if any(folder.glob("**/train*.parquet")):
        return parquet_folder(name, folder, padding=4, flip=True, **statistics)
    published = _published(class_name)
    _present_or_downloaded(name, published, folder)
    files = sorted(file for file in (folder / published.base_folder).iterdir() if file.is_file())
    return Dataset(
        name=name,
        origin=f"torchvision's copy in {folder}",
        fingerprint=content_id([name, [file_id(file) for file in files]], length=32),
        num_classes=num_classes,
        decode=lambda: _decode(published, folder),
        **statistics,
    )


def _present_or_downloaded(name: str, published: Any, folder: Path) -> None:
    """Have torchvision check the files against their published digests, and download them if they are missing."""
    try:
        published(str(folder), download=False)
        return
    except RuntimeError:
        pass
    writable_folder(folder)
    try:
        published(str(folder), download=True)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong digest is a RuntimeError
        reason = str(getattr(error, "reason", error)).split("\n", 1)[0].rstrip(".")
        raise UserError(
            f"{folder}: {name} is missing and cannot be downloaded ({reason}). Put {published.filename}, unpacked,"
            f" into that folder, or give DATA=<folder with {published.base_folder} or with train*.parquet>."
        ) from error


def _decode(published: Any, folder: Path) -> Decoded:
    train, test = published(str(folder), train=True), published(str(folder), train=False)
    return Decoded(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        np.asarray(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.asarray(test.targets, dtype=np.int64),
    )
