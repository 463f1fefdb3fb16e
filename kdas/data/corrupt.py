"""Unreadable images: a few are skipped and named, too many end the run."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kdas.data.interface import Decoded, Labels
from kdas.errors import UserError

# A set that lacks a larger share of its images counts as another set.
MAX_UNREADABLE_SHARE = 0.01
NUM_NAMED = 5

# Pillow raises many kinds of errors for files that are not images.
READING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class Unreadable:
    """The unreadable images of one set, each counted once, the first ones named."""

    def __init__(self, origin: str, train_labels: Labels, test_labels: Labels) -> None:
        """Args: origin: name of the set in messages; train_labels [N]; test_labels [M]: their numbers start at N."""
        self._origin, self._num_train = origin, len(train_labels)
        self._labels = np.concatenate([train_labels, test_labels])
        self._left = {"training": np.bincount(train_labels), "test": np.bincount(test_labels)}
        self._numbers: set[int] = set()
        self._names: list[str] = []
        self._emptied: list[str] = []

    @property
    def count(self) -> int:
        return len(self._numbers)

    def add(self, number: int, name: str) -> bool:
        """Count an image once. Returns: whether it is new and among the first, which are named."""
        if number in self._numbers:
            return False
        self._numbers.add(number)
        part, label = "training" if number < self._num_train else "test", self._labels[number]
        self._left[part][label] -= 1
        if not self._left[part][label]:
            self._emptied.append(f"{part} images of class {label}")
        if self.count <= NUM_NAMED:
            self._names.append(name)
        return self.count <= NUM_NAMED

    def check(self) -> None:
        """Raises: UserError: if too many images, or all of a class, cannot be read."""
        total = len(self._labels)
        reasons = [f"including all {self._emptied[0]}"] if self._emptied else []
        if self.count > MAX_UNREADABLE_SHARE * total:
            reasons.insert(0, f"more than {MAX_UNREADABLE_SHARE:.0%}")
        if reasons:
            raise UserError(
                f"{self._origin}: {self.count} of {total} images ({self.count / total:.1%}) cannot be read,"
                f" {' and '.join(reasons)}: {self._named()}. Fix them, or copy the dataset again."
            )

    def warn(self) -> None:
        """Warn once about all unreadable images found so far."""
        if self.count:
            warnings.warn(
                f"{self._origin}: {self.count} of {len(self._labels)} images cannot be read and are skipped:"
                f" {self._named()}.",
                stacklevel=2,
            )

    def warn_of(self, name: str) -> None:
        """Warn about one image when it is found."""
        warnings.warn(f"{self._origin}: {name} cannot be read and is skipped.", stacklevel=2)

    def _named(self) -> str:
        more = self.count - len(self._names)
        return ", ".join(self._names) + (f" and {more} more" if more else "")


def check_decoded(origin: str, decoded: Decoded) -> None:
    """Check a fully decoded set. Raises: UserError: if too many of its images could not be read."""
    unreadable = Unreadable(origin, decoded.train_labels, decoded.test_labels)
    for number, name in zip(decoded.unreadable.tolist(), decoded.unreadable_names.tolist(), strict=True):
        unreadable.add(number, name)
    unreadable.check()
    unreadable.warn()


def readable_parts(decoded: Decoded) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which training [N] and which test images [M] could be read."""
    num_train = len(decoded.train_labels)
    readable = np.ones(num_train + len(decoded.test_labels), dtype=bool)
    readable[decoded.unreadable] = False
    return readable[:num_train], readable[num_train:]
