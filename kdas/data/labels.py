"""From a label column of parquet files to class numbers: numbers, names, true and false."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kdas.data.files import MAX_CLASSES, check_tested_classes, warn_of_untested
from kdas.data.hub_folder import HubFolder
from kdas.data.interface import Labels
from kdas.data.parquet_file import check_column, damage_named, is_text, open_parquet
from kdas.errors import UserError

_NAMES = ("label", "labels", "fine_label", "target", "class")
# Numbers of what is coarser than a class. Beside a label they raise the question which is meant.
_SUPERCLASSES = ("coarse_label", "superlabel", "superclass")
_ROWS_AT_ONCE, _MOST_NAME_BYTES = 65_536, 200_000_000
# Read as JSON they take ten times as much; the names of all allowed classes take less.
_MOST_DESCRIBED_BYTES = 10_000_000


@dataclass(frozen=True)
class LabelColumn:
    """Class numbers of both parts, int64 [N] and [M], from 0 to `num_classes` - 1.

    `names`: in the order of their numbers; empty if the files name none.
    """

    train: Labels
    test: Labels
    num_classes: int
    names: tuple[str, ...] = ()


def check_label_type(file: Path, column: str, kind: pa.DataType) -> None:
    """Raises: UserError: if values of this type cannot name a class."""
    if not _is_label(kind):
        is_number = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        remedy = "Save it as whole numbers, or set" if is_number else "Set"
        raise UserError(
            f"{file}: column {column!r}: expected class numbers or names, got {kind}. {remedy} another label_column."
        )


def _is_label(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_boolean(kind) or is_text(kind))


def find_label_column(schema: pa.Schema, files: HubFolder) -> str:
    """The column of labels.

    Raises: UserError: if there is none, or if several could be meant and differ in more than names.
    """
    known = [name for name in (*_NAMES, *_SUPERCLASSES) if name in schema.names and _is_label(schema.field(name).type)]
    file = files.train[0]
    if not any(name in _NAMES for name in known):
        for name in _NAMES:
            if name in schema.names:
                check_label_type(file, name, schema.field(name).type)
        raise UserError(f"{file}: no column contains labels. Set label_column to one of: {', '.join(schema.names)}.")
    numbers = [name for name in known if name in _NAMES and pa.types.is_integer(schema.field(name).type)]
    chosen = numbers[0] if numbers else known[0]
    for other in known:
        if other != chosen and not _say_the_same(files.train, chosen, other):
            raise UserError(
                f"{file}: the columns {chosen!r} and {other!r} both contain labels, and differ. Set label_column to one"
                " of them."
            )
    return chosen


def _say_the_same(files: Sequence[Path], one: str, other: str) -> bool:
    """Whether each value of one column always stands beside the same value of the other, and the other way round."""
    tables = [pa.table([_values(file, name) for name in (one, other)], names=["one", "other"]) for file in files]
    pairs = pa.concat_tables(tables).group_by(["one", "other"]).aggregate([])
    return all(len(pc.unique(column)) == len(pairs) for column in pairs.columns)


def read_labels(files: HubFolder, column: str, schema: pa.Schema) -> LabelColumn:
    """The labels of both parts. Names become numbers in the order of the alphabet, false and true 0 and 1.

    Raises: UserError: names the file with a label that is no class, or the first class that is in one part alone.
    """
    values = {file: _values(file, column) for file in files.files}
    called: list[str] = []
    kind = values[files.train[0]].type
    for file in files.files:
        _check(file, column, values[file], kind)
    if pa.types.is_integer(kind):
        called = _names_in_metadata(schema, column)
        count = _num_numbered(len(called), files, values, column)
        numbers = [_in_range(file, column, values[file], count) for file in files.files]
    elif pa.types.is_boolean(kind):
        count, called = 2, ["false", "true"]
        numbers = [values[file].to_numpy().astype(np.int64) for file in files.files]
    else:
        names = _names(files, values, column)
        count, called = len(names), names.to_pylist()
        numbers = [_numbered(file, column, values[file], names) for file in files.files]
    train, test = (np.concatenate(part) for part in (numbers[: len(files.train)], numbers[len(files.train) :]))
    _say_what_lacks(files.folder, train, test, called or [str(number) for number in range(count)])
    return LabelColumn(train, test, count, tuple(called))


def _values(file: Path, column: str) -> pa.ChunkedArray:
    _check_names(file, column)
    with open_parquet(file) as opened, damage_named(file, column):
        check_column(file, opened.schema_arrow, column)
        values = opened.read(columns=[column]).column(column)
        if pa.types.is_dictionary(values.type):  # which the file may number as it likes
            values = values.cast(values.type.value_type)
        return values.cast(pa.large_string()) if is_text(values.type) else values


def _check_names(file: Path, column: str) -> None:
    """Look through the names of a column, each kept once, before all are read.

    Raises: UserError: if they are too many, or take too much memory.
    """
    with open_parquet(file, text=column) as opened, damage_named(file, column):
        check_column(file, opened.schema_arrow, column)
        if not pa.types.is_dictionary(opened.schema_arrow.field(column).type):
            return
        seen, num_bytes = pa.array([], pa.large_string()), 0
        for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            names = batch.column(0)
            lengths = pc.binary_length(names.dictionary).take(names.indices)
            num_bytes += pc.sum(lengths).as_py() or 0
            used = names.dictionary.take(pc.unique(names.indices)).cast(pa.large_string())
            seen = pc.unique(pa.concat_arrays([seen, used]))
            _check_number(file, column, len(seen))
            if num_bytes > _MOST_NAME_BYTES:
                raise UserError(
                    f"{file}: column {column!r}: its names take over {_MOST_NAME_BYTES / 1e6:.0f} MB. Number"
                    " the classes instead."
                )


def _check_number(file: Path, column: str, number: int) -> None:
    if number > MAX_CLASSES:
        raise UserError(
            f"{file}: column {column!r}: expected at most {MAX_CLASSES:,} classes, got more names. Set another"
            " label_column."
        )


def _check(file: Path, column: str, values: pa.ChunkedArray, kind: pa.DataType) -> None:
    if values.null_count:
        rows = "1 empty row" if values.null_count == 1 else f"{values.null_count} empty rows"
        raise UserError(f"{file}: column {column!r} has {rows}. Label or remove them.")
    if not len(values):
        raise UserError(f"{file}: contains no rows. Copy the file again, or remove it.")
    is_number = [pa.types.is_integer(each) for each in (kind, values.type)]
    if is_number[0] != is_number[1] or (not is_number[0] and kind != values.type):
        raise UserError(f"{file}: column {column!r}: expected {kind} as in the first file, got {values.type}.")


def _num_numbered(num_named: int, files: HubFolder, values: dict[Path, pa.ChunkedArray], column: str) -> int:
    """As the files' metadata says, else one more than the highest label that is trained on."""
    count, file = num_named, files.train[0]
    if not count:
        file = max(files.train, key=lambda each: int(pc.max(values[each]).as_py()))
        count = int(pc.max(values[file]).as_py()) + 1
    if count > MAX_CLASSES:
        raise UserError(
            f"{file}: column {column!r}: expected at most {MAX_CLASSES:,} classes, got {count:,}. Set another"
            " label_column."
        )
    return count


def _names_in_metadata(schema: pa.Schema, column: str) -> list[str]:
    """Names of the numbered classes; none if the file has no such metadata, or none that can be used."""
    try:
        described = (schema.metadata or {})[b"huggingface"]
        if len(described) > _MOST_DESCRIBED_BYTES:
            return []
        names = json.loads(described)["info"]["features"][column]["names"]
    except (LookupError, ValueError, TypeError, RecursionError):
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _in_range(file: Path, column: str, values: pa.ChunkedArray, num_classes: int) -> Labels:
    ends = pc.min_max(values).as_py()
    if ends["min"] == ends["max"] == -1:
        raise UserError(
            f"{file}: column {column!r} is -1 in every row, so these images have no labels. Move the file out of the"
            " folder; without a test part, a validation part is used."
        )
    if ends["min"] < 0 or ends["max"] >= num_classes:
        odd = ends["min"] if ends["min"] < 0 else ends["max"]
        row = pc.index(values, odd).as_py() + 1
        unlabelled = " -1 usually marks an image without a label." if odd == -1 else ""
        raise UserError(
            f"{file}: column {column!r}, row {row}: expected labels from 0 to {num_classes - 1}, got {odd}.{unlabelled}"
            " Fix or remove that row."
        )
    numbers: Labels = values.cast(pa.int64()).to_numpy()
    return numbers


def _names(files: HubFolder, values: dict[Path, pa.ChunkedArray], column: str) -> pa.Array:
    names = pc.unique(pa.chunked_array([pc.unique(values[file]) for file in files.train]))
    _check_number(files.train[0], column, len(names))
    trimmed = pc.utf8_trim_whitespace(names)
    odd = names.filter(pc.and_(pc.not_equal(names, trimmed), pc.is_in(trimmed, value_set=names)))
    if len(odd):
        name = odd[0].as_py()
        raise UserError(
            f"{files.train[0]}: column {column!r}: the classes {name!r} and {name.strip()!r} differ in blanks alone."
            " Write them the same way."
        )
    return names.take(pc.sort_indices(names))


def _numbered(file: Path, column: str, values: pa.ChunkedArray, names: pa.Array) -> Labels:
    numbers = pc.index_in(values, value_set=names)
    if numbers.null_count:
        odd = values.filter(pc.is_null(numbers))[0].as_py()
        raise UserError(
            f"{file}: column {column!r}: class {odd!r} is in no training file. Add training images of it,"
            " or remove those rows."
        )
    found: Labels = numbers.to_numpy().astype(np.int64)
    return found


def _say_what_lacks(folder: Path, train_labels: Labels, test_labels: Labels, names: Sequence[str]) -> None:
    """A warning where a class has no images in a part: labels may be numbered from 1. Args: names: of the classes.

    Raises: UserError: if there are only test images of a class.
    """
    num_classes = len(names)
    counts = [np.bincount(labels, minlength=num_classes) for labels in (train_labels, test_labels)]
    trained, tested = ([name for name, num in zip(names, count, strict=True) if num] for count in counts)
    check_tested_classes(folder, trained, tested)
    missing = np.flatnonzero(counts[0] == 0)
    if missing.tolist() == [0]:
        warnings.warn(
            f"{folder}: labels go from 1 to {num_classes - 1}. Class 0 has no images, but counts as a class. If that is"
            " not meant, number them from 0.",
            stacklevel=2,
        )
    elif len(missing):
        warnings.warn(
            f"{folder}: {len(missing)} of {num_classes} classes have no training images, for example class"
            f" {missing[0]}.",
            stacklevel=2,
        )
    lacking = set(trained) - set(tested)
    warn_of_untested(folder, [name for name in names if name in lacking], num_classes)
