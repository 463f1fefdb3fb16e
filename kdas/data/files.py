"""Image files below a folder, listed but not decoded."""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdas.errors import UserError

# More are a mistake: the largest published sets have a fifth of it, and each is an output of every model.
MAX_CLASSES = 100_000
# What systems and tools leave in folders, besides names that begin with a dot.
_LEFTOVERS = {"__macosx", "@eadir", "thumbs.db", "desktop.ini", "lost+found", "$recycle.bin"}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is no part of a set: `._0.png`, `.ipynb_checkpoints`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _LEFTOVERS


def check_folder(folder: Path, remedy: str) -> None:
    """Raises: UserError: if this is no folder that can be read; ends with the remedy where it is not there."""
    if folder.is_file():
        raise UserError(f"{folder}: is a file. Give the folder that contains it.")
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. {remedy}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"{folder}: cannot be read: permission denied. Change its permissions.")


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

    def taken(self, train: NDArray[np.int64], test: NDArray[np.int64]) -> ImageFiles:
        """Some of the training and some of the test images, by their places in their part. The fingerprint stays."""
        numbers = np.concatenate([train, self.num_train + test])
        names = [os.fsencode(self.path(number).relative_to(self.folder)) for number in numbers.tolist()]
        ends = np.cumsum([len(name) for name in names], dtype=np.int64)
        return ImageFiles(self.folder, b"".join(names), ends, self.labels[numbers], len(train), self.fingerprint)

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
    """The class folders of one part, in torchvision's order. Hidden folders are none.

    Raises: UserError: if there are none, or too many.
    """
    check_folder(folder, "Put the class folders there, or give another path.")
    classes = sorted(each.name for each in os.scandir(folder) if not is_hidden(each.name) and each.is_dir())
    if not classes:
        raise UserError(f"{folder}: contains no class folders. Make one for each class.")
    if len(classes) > MAX_CLASSES:
        raise UserError(f"{folder}: expected at most {MAX_CLASSES:,} class folders, got {len(classes):,}.")
    return classes


def images_in(folder: Path, classes: Iterable[str], only: Container[str] | None = None) -> Iterator[tuple[Path, int]]:
    """The images below each class folder, in torchvision's order, with the number of the class. Hidden ones are none.

    Args: only: the classes of which there are images; by default all.
    Raises: UserError: if a class has none.
    """
    from torchvision.datasets.folder import IMG_EXTENSIONS

    for label, name in enumerate(classes):
        if only is not None and name not in only:
            continue
        found = False
        for inner, names in sorted(_walked(folder / name)):
            for each in sorted(names):
                if each.lower().endswith(IMG_EXTENSIONS) and not is_hidden(each):
                    found = True
                    yield Path(inner) / each, label
        if not found:
            endings = ", ".join(IMG_EXTENSIONS)
            raise UserError(f"{folder / name}: contains no image ({endings}). Add images, or remove the folder.")


def _walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below this one with its files, through links too, but each once: links may form a circle."""
    seen: set[tuple[int, int]] = set()
    for inner, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(inner)  # noqa: PTH116 (a string, as os.walk has it)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(each for each in folders if not is_hidden(each))
        yield inner, names


def check_same_classes(folder: Path, train: Iterable[str], test: Iterable[str]) -> None:
    """Raises: UserError: if a class is in only one part."""
    train, test = set(train), set(test)
    odd = sorted(train ^ test)
    for name in odd:
        here, there = ("train", "test") if name in train else ("test", "train")
        raise UserError(f"{folder}: {_in_one_part(odd, here, there)}. Both parts need the same classes.")


def check_tested_classes(folder: Path, train: Iterable[str], test: Iterable[str]) -> None:
    """Raises: UserError: if a class is in the test part alone: nobody could learn it."""
    odd = sorted(set(test) - set(train))
    if odd:
        raise UserError(
            f"{folder}: {_in_one_part(odd, 'test', 'train')}. Add training images of it, or remove it from the test"
            " part."
        )


def warn_of_untested(folder: Path, names: Sequence[str], num_classes: int) -> None:
    """A warning that classes have no test images. Args: names: theirs, in order."""
    if names:
        warnings.warn(
            f"{folder}: {len(names)} of {num_classes} classes have no test images, for example class {names[0]}. Test"
            " accuracy says nothing of them.",
            stacklevel=2,
        )


def _in_one_part(names: Sequence[str], here: str, there: str) -> str:
    such = f"{len(names)} such class{'es' if len(names) > 1 else ''}"
    return f"class {names[0]!r} is in the {here} part but not in the {there} part ({such})"


def _num_bytes(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Add the image, or fix the list.") from error
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: expected an image file, got a folder or a device. Remove it.")
    return status.st_size
