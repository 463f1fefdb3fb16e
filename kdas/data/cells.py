"""The image cells of parquet files: bytes, structs of bytes and path, or paths of files beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from kdas.data.hub_folder import HubFolder
from kdas.data.interface import Labels
from kdas.data.parquet_file import damage_named, is_binary, is_text, open_parquet
from kdas.data.survey import Encoded
from kdas.errors import UserError, brief
from kdas.files.limits import MOST_GROWTH, most_unpacked_bytes

# Columns of plain bytes, or else of paths, that are images.
_NAMES = ("image", "images", "img", "photo", "picture", "pixel", "image_bytes", "bytes", "png", "jpg", "jpeg")
_PATH_NAMES = (*_NAMES, "image_path", "img_path", "path", "file_path", "filepath", "file_name", "filename", "file")
_MOST_ROWS, _USUAL_BATCH_BYTES = 128, 32 * 2**20
# To look at an image takes as long as to read this many bytes of it.
_LEAST_BYTES = 1_000


def find_image_column(schema: pa.Schema, file: Path) -> str:
    """The column of images: the first of structs with bytes, or with paths, the only one of bytes, or a usual name.

    Raises: UserError: if no column fits.
    """
    structs = [field.name for part in ("bytes", "path") for field in schema if _has_field(field.type, part)]
    binary = [field.name for field in schema if is_binary(field.type)]
    named = [name for name in _NAMES if name in binary] or [
        name for name in _PATH_NAMES if name in schema.names and is_text(schema.field(name).type)
    ]
    for found in (structs, binary if len(binary) == 1 else [], named):
        if found:
            return str(found[0])
    is_possible = any(is_binary(field.type) or is_text(field.type) for field in schema)
    columns = ", ".join(schema.names if is_possible else (f"{field.name} ({field.type})" for field in schema))
    remedy = "Set image_column." if is_possible else "Save each image as the bytes of a PNG or JPEG file."
    raise UserError(
        f"{file}: expected a column of images (encoded, or paths), got {brief(columns, 400)[1:-1]}. {remedy}"
    )


def cells_in(file: Path, folder: Path, column: str, rows: Labels) -> Iterator[Encoded]:
    """The images in some rows of a file, in order. Holds only a few at once.

    Args: folder: of the set, which paths may not leave; rows: sorted.
    Raises: UserError: if the column is damaged, has no images, or has a path out of the folder.
    """
    wanted = iter(rows.tolist())
    following, begin = next(wanted, None), 0
    num_bytes, most = 0, _most_bytes(file)
    for batch in _batches(file, column) if following is not None else ():
        inside = []
        while following is not None and following < begin + len(batch):
            inside.append(following - begin)
            following = next(wanted, None)
        some = batch if len(inside) == len(batch) else batch.take(pa.array(inside, pa.int64()))
        for row, cell in zip(inside, some.to_pylist(), strict=True):
            encoded = _encoded(cell, file, folder, begin + row)
            if isinstance(encoded.source, bytes):
                num_bytes += max(len(encoded.source), _LEAST_BYTES)
            if num_bytes > most:
                raise UserError(
                    f"{file}: its images take over {most / 1e9:.1f} GB, more than {MOST_GROWTH} times its size, so the"
                    " same ones are there again and again. Keep each once."
                )
            yield encoded
        begin += len(batch)
        if following is None:
            return


def _most_bytes(file: Path) -> int:
    """How many bytes of images a file may hold: one image that many rows share takes no room in it, but time."""
    with file.open("rb") as content:
        return most_unpacked_bytes(content)


def path_ids(files: HubFolder, column: str) -> list[list[Any]]:
    """Path and size of every image in a file of its own, whose content the parquet files do not cover."""
    found: list[list[Any]] = []
    for file in files.files:
        for row, cell in _cells_with_paths(file, column):
            source = _encoded(cell, file, files.folder, row).source
            if isinstance(source, Path):
                found.append([source.relative_to(files.folder.absolute()).as_posix(), source.stat().st_size])
    return found


def _cells_with_paths(file: Path, column: str) -> Iterator[tuple[int, Any]]:
    """The rows of a file that may have a path and no bytes. Skips columns without gaps, which are usual."""
    with open_parquet(file) as opened:
        kind = _kind(file, opened.schema_arrow, column)
        groups = [opened.metadata.row_group(number) for number in range(opened.metadata.num_row_groups)]
    if is_binary(kind):
        return
    if _is_struct(kind) and all(_num_nulls(group, f"{column}.bytes") == 0 for group in groups):
        return
    begin = 0
    for batch in _batches(file, column):
        yield from enumerate(batch.to_pylist(), begin)
        begin += len(batch)


def _num_nulls(group: Any, leaf: str) -> int | None:
    """Number of rows of a row group without a value; None if statistics or column are missing."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == leaf and column.statistics is not None and column.statistics.has_null_count:
            return int(column.statistics.null_count)
    return None


def _batches(file: Path, column: str) -> Iterator[pa.Array]:
    """The column in pieces, so that a large row group does not have to fit into memory."""
    with open_parquet(file) as opened, damage_named(file, column):
        _kind(file, opened.schema_arrow, column)
        metadata, num_bytes = opened.metadata, 0
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            leaves = [group.column(each) for each in range(group.num_columns)]
            num_bytes += sum(
                leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] == column
            )
        rows = _USUAL_BATCH_BYTES * max(1, metadata.num_rows) // max(1, num_bytes)
        for batch in opened.iter_batches(batch_size=max(1, min(_MOST_ROWS, rows)), columns=[column]):
            yield batch.column(0)


def _encoded(cell: Any, file: Path, folder: Path, row: int) -> Encoded:
    name = f"{file} row {row}"
    content, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
    if isinstance(content, bytes):
        return Encoded(name, content)
    if not isinstance(path, str) or not path:
        return Encoded(name, None)
    root = folder.absolute()
    inside = [
        place
        for place in (Path(os.path.normpath(base.absolute() / path)) for base in (file.parent, folder))
        if place.is_relative_to(root)
    ]
    if not inside:
        raise UserError(f"{name}: the path {path} leads out of {root}. Use paths below that folder.")
    try:
        found = next((place for place in inside if place.is_file()), None)
    except OSError:  # a name that no file can have
        found = None
    return Encoded(name, found, "" if found else f"{inside[0]}: no such file")


def _kind(file: Path, schema: pa.Schema, column: str) -> pa.DataType:
    kind = schema.field(column).type
    if not (_is_struct(kind) or is_binary(kind) or is_text(kind)):
        raise UserError(f"{file}: column {column!r}: expected images or paths, got {kind}. Set another image_column.")
    return kind


def _is_struct(kind: pa.DataType) -> bool:
    return _has_field(kind, "bytes") or _has_field(kind, "path")


def _has_field(kind: pa.DataType, name: str) -> bool:
    return bool(pa.types.is_struct(kind) and kind.get_field_index(name) >= 0)
