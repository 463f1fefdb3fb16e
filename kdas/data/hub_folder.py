"""Assigns the parquet files of a folder to the parts of a set, in the layouts of dataset hubs."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kdas.data.files import check_folder, is_hidden
from kdas.data.split_names import TEST, TRAIN, VALIDATION
from kdas.errors import UserError

_PARTS = {"train": TRAIN, "test": TEST, "validation": VALIDATION}
# How hubs call the first gigabytes of a part of a large set.
_PARTIAL = "partial-"


@dataclass(frozen=True)
class HubFolder:
    """The parquet files to train on and to test on, each part in the order of their paths."""

    folder: Path
    train: tuple[Path, ...]
    test: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.train, *self.test)


def has_parquet(folder: Path) -> bool:
    """Whether a folder contains a training part in parquet files."""
    return any(part == "train" for _, part in _parts_in(folder))


def hub_folder(folder: Path) -> HubFolder:
    """The files of a set: `train*.parquet` and `test*.parquet`, or any parquet files in folders of these names.

    Without test files, the validation files serve as the test part.

    Raises: UserError: if a part is missing, or the folder holds more than one set.
    """
    check_folder(folder, "Give the folder that contains train*.parquet and test*.parquet.")
    parts: dict[str, list[Path]] = {"train": [], "test": [], "validation": []}
    for path, part in _parts_in(folder):
        parts[part].append(path)
    if not parts["train"]:
        raise _lacking(folder, "train*.parquet")
    test = parts["test"] or parts["validation"]
    if not test:
        raise _lacking(folder, "test*.parquet or validation*.parquet")
    _check_one_set(folder, parts["train"], test)
    for files in (parts["train"], test):
        _check_one_name(files)
    if not parts["test"]:
        warnings.warn(f"{folder}: contains no test*.parquet, so {test[0].name} is the test split.", stacklevel=2)
    return HubFolder(folder, tuple(parts["train"]), tuple(test))


def _parquet_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*.parquet")):
        if path.is_file() and not any(is_hidden(name) for name in path.relative_to(folder).parts):
            yield path


def _parts_in(folder: Path) -> Iterator[tuple[Path, str]]:
    """Each file with its part, by the beginning of its name, or else by the name of a folder above it."""
    for path in _parquet_in(folder):
        below = path.relative_to(folder).parts[:-1]
        part = _part_of_name(path.stem) or next(filter(None, map(_part_of_folder, reversed(below))), None)
        if part:
            yield path, part


def _part_of_name(name: str) -> str | None:
    word = _first_word(name)
    exact = next((part for part, names in _PARTS.items() if word in names), None)
    # `trainset.parquet` has always been a training part, and `tests.parquet` one to test on.
    return exact or next((part for part in ("train", "test") if word.startswith(part)), None)


def _part_of_folder(name: str) -> str | None:
    name = name.lower().removeprefix(_PARTIAL)
    return next((part for part, names in _PARTS.items() if name in names), None)


def _first_word(name: str) -> str:
    return re.match("[a-z]*", name.lower().removeprefix(_PARTIAL))[0]  # type: ignore[index]  # matches anything


def _check_one_name(files: list[Path]) -> None:
    """Reject `train.parquet` beside `training_extra.parquet`: either may be the part."""
    by_word = {_first_word(path.stem): path for path in files if _part_of_name(path.stem)}
    if len(by_word) > 1:
        one, other, *_ = by_word.values()
        raise UserError(
            f"{one}: its name stands for the same part as {other.name}. Move one of them out of the folder, or start"
            " both names with the same word."
        )


def _check_one_set(folder: Path, train: list[Path], test: list[Path]) -> None:
    """Reject two configurations of a hub's repository, which have a folder each."""
    training, testing = ({_root(folder, path): None for path in files} for files in (train, test))
    whole = [root for root in training if root in testing]
    further = [root for root in (*training, *testing) if whole and root != whole[0]]
    if further:
        raise UserError(
            f"{folder}: contains more than one set: in {whole[0]} and in {further[0]}. Set path to one of these"
            " folders, or move the other away."
        )


def _root(folder: Path, file: Path) -> Path:
    """The folder of the set that a file belongs to: above the folders of its parts."""
    root = file.parent
    while root != folder and _part_of_folder(root.name):
        root = root.parent
    return root


def _lacking(folder: Path, what: str) -> UserError:
    names = [path.name for path in _parquet_in(folder)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    only = f", only {', '.join(names[:3])}{more}" if names else ""
    if not names and next(folder.rglob("*.arrow"), None):
        remedy = "It holds Arrow files: save each split with to_parquet, for example train.parquet."
    else:
        remedy = "Put the files there, or give another path."
    return UserError(f"{folder}: contains no {what}{only}. {remedy}")
