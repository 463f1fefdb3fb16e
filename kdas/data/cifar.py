"""CIFAR-10 and CIFAR-100: torchvision's copies, downloaded when absent, or a local parquet copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from kdas.data.files import check_folder
from kdas.data.hub_folder import has_parquet
from kdas.data.interface import DATASETS, Dataset, Decoded, MaxSamples, Resize, resolved_path
from kdas.data.parquet import parquet_folder
from kdas.data.pixels import fitted
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, file_id, writable_folder
from kdas.parts.paths import LOCAL_FOLDER

DataPath = Annotated[
    str | None,
    LOCAL_FOLDER,
    Field(description="Folder of a local copy: torchvision's layout, or train*.parquet and test*.parquet."),
]
# torchvision's class, the number of classes, and what hubs call the column of labels.
_VARIANTS = {"cifar10": ("CIFAR10", 10, "label"), "cifar100": ("CIFAR100", 100, "fine_label")}
# The normalisation that the field's shared CIFAR-100 checkpoints were trained with.
_CIFAR100_MEAN, _CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


@DATASETS.register("cifar10", source="Krizhevsky, 2009")
def cifar10(*, path: DataPath = None, resize: Resize = None, max_samples: MaxSamples = None) -> Dataset:
    """60,000 photographs of 32x32 pixels in 10 classes."""
    return _cifar("cifar10", path, resize, max_samples)


@DATASETS.register("cifar100", source="Krizhevsky, 2009")
def cifar100(*, path: DataPath = None, resize: Resize = None, max_samples: MaxSamples = None) -> Dataset:
    """60,000 photographs of 32x32 pixels in 100 classes."""
    return _cifar("cifar100", path, resize, max_samples, mean=_CIFAR100_MEAN, std=_CIFAR100_STD)


def _published(class_name: str) -> Any:
    # torchvision takes seconds to load and few sweeps need it.
    import torchvision.datasets

    return getattr(torchvision.datasets, class_name)


def _cifar(name: str, path: str | None, size: int | None, max_samples: int | None, **statistics: Any) -> Dataset:
    class_name, num_classes, label_column = _VARIANTS[name]
    folder = resolved_path(path, cache_root() / "downloads")
    if path:
        check_folder(folder, f"Put {name} there, or give DATA=<folder>.")
    further: dict[str, Any] = {"padding": (size or 32) // 8, "flip": True, "size": size, "max_samples": max_samples}
    if has_parquet(folder):
        dataset = parquet_folder(name, folder, usual_label=label_column, **further, **statistics)
        if dataset.num_classes != num_classes:
            raise UserError(
                f"{folder}: expected {num_classes} classes for {name}, got {dataset.num_classes}. Set"
                f" {_fitting(dataset.num_classes)}, or give DATA=<folder with {name}>."
            )
        return dataset
    published = _published(class_name)
    class_names = _present_or_downloaded(name, published, folder)
    files = sorted(file for file in (folder / published.base_folder).iterdir() if file.is_file())
    return Dataset(
        name=name,
        origin=f"torchvision's copy in {folder}",
        fingerprint=content_id([name, [file_id(file) for file in files]], length=32),
        num_classes=num_classes,
        decode=lambda: fitted(_decode(published, folder), size, max_samples),
        class_names=class_names,
        **further,
        **statistics,
    )


def _fitting(num_classes: int) -> str:
    """The name in a sweep file of the set with this many classes."""
    name = next((each for each, (_, number, _) in _VARIANTS.items() if number == num_classes), "parquet")
    return f"dataset: {name}" if name != "parquet" else "dataset: {name: parquet, path: ...}"


def _present_or_downloaded(name: str, published: Any, folder: Path) -> tuple[str, ...]:
    """Have torchvision check the files against their published digests, and download them if they are missing.

    Returns: the names of the classes.
    """
    try:
        return tuple(published(str(folder), download=False).classes)
    except RuntimeError:
        pass
    writable_folder(folder)
    try:
        return tuple(published(str(folder), download=True).classes)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors; a wrong digest is a RuntimeError
        reason = str(getattr(error, "reason", error)).split("\n", 1)[0].rstrip(".")
        raise UserError(
            f"{folder}: {name} is missing and cannot be downloaded ({reason}).{_other(name, folder)} Put"
            f" {published.filename}, unpacked, into that folder, or give DATA=<folder with {published.base_folder} or"
            " with train*.parquet>."
        ) from error


def _other(name: str, folder: Path) -> str:
    """A sentence if the folder contains the other set in its place."""
    other = next(each for each in _VARIANTS if each != name)
    is_there = (folder / _published(_VARIANTS[other][0]).base_folder).is_dir()
    return f" The folder contains {other}." if is_there else ""


def _decode(published: Any, folder: Path) -> Decoded:
    # torchvision unpickles files only if they have their published digests.
    train, test = published(str(folder), train=True), published(str(folder), train=False)
    return Decoded(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        np.asarray(train.targets, dtype=np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.asarray(test.targets, dtype=np.int64),
    )
