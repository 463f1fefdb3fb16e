"""Image files below a folder, listed but not decoded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdas.errors import UserError


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """The files of a set, numbered: first those to train on, then those to test on.

    Names are kept in one bytes object: a list of a million strings takes several times the memory in every process.

    Args: names: paths below `folder`, concatenated; ends: where each of them ends [N]; labels [N].
    """

    folder: Path
    names: bytes
    ends: NDArray[np.int64]
    labels: NDArray[np.int64]
    num_train: int
    fingerprint: str

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, number: int) -> Path:
        begin = self.ends[number - 1] if number else 0
        return self.folder / os.fsdecode(self.names[begin : self.ends[number]])

    @property
    def train_labels(self) -> NDArray[np.int64]:
        return self.labels[: self.num_train]

    @property
    def test_labels(self) -> NDArray[np.int64]:
        return self.labels[self.num_train :]


def listed(folder: Path, train: Iterable[tuple[Path, int]], test: Iterable[tuple[Path, int]]) -> ImageFiles:
    """The files of both parts, each with its label.

    The fingerprint is a hash of names below the folder, sizes in bytes and labels, since hashing the contents takes an
    hour for a set of 150 GB. Pixels changed under the same name and size go unnoticed.

    Raises: UserError: if a file is missing.
    """
    content = hashlib.blake2b(b"image files", digest_size=16)
    names, num_train = bytearray(), 0
    ends: list[int] = []
    labels: list[int] = []
    for part in (train, test):
        num_train = len(labels)
        for path, label in part:
            name = path.relative_to(folder)
            content.update(f"{name.as_posix()}\0{_num_bytes(path)}\0{label}\n".encode("utf-8", "surrogateescape"))
            names += os.fsencode(name)
            ends.append(len(names))
            labels.append(label)
        content.update(b"\n")
    return ImageFiles(
        folder, bytes(names), np.array(ends, np.int64), np.array(labels, np.int64), num_train, content.hexdigest()
    )


def classes_in(folder: Path) -> list[str]:
    """The class folders of one part, in torchvision's order.

    Raises: UserError: if there are none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Put the class folders there, or give another path.")
    from torchvision.datasets.folder import find_classes

    try:
        return list(find_classes(folder)[0])
    except FileNotFoundError as error:
        raise UserError(f"{folder}: contains no class folders. Make one for each class.") from error


def images_in(folder: Path, classes: Iterable[str]) -> Iterator[tuple[Path, int]]:
    """The images below each class folder, in torchvision's order, with the number of the class.

    Raises: UserError: if a class has none.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS, make_dataset

    for label, name in enumerate(classes):
        try:
            # One class at a time: torchvision's list takes ten times the memory of ours.
            found = make_dataset(str(folder), {name: label}, IMG_EXTENSIONS)
        except FileNotFoundError as error:
            endings = ", ".join(IMG_EXTENSIONS)
            raise UserError(
                f"{folder / name}: contains no image ({endings}). Add images, or remove the folder."
            ) from error
        yield from ((Path(path), label) for path, label in found)


def check_same_classes(folder: Path, train: Iterable[str], test: Iterable[str]) -> None:
    """Raises: UserError: if a class is in only one part."""
    train, test = set(train), set(test)
    odd = sorted(train ^ test)
    for name in odd:
        here, there = ("train", "test") if name in train else ("test", "train")
        raise UserError(
            f"{folder}: class {name!r} is in the {here} part but not in the {there} part"
            f" ({len(odd)} such class{'es' if len(odd) > 1 else ''}). Both parts need the same classes."
        )


def _num_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Add the image, or fix the list.") from error
