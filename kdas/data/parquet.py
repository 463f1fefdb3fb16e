"""Image classification sets in the parquet layout of dataset hubs."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from pydantic import Field

from kdas.data.corrupt import READING_ERRORS
from kdas.data.interface import DATASETS, Dataset, Decoded, Images, Labels
from kdas.errors import UserError
from kdas.files.cache import content_id, file_id

_LABEL_NAMES = ("label", "labels", "fine_label", "target", "class")


@DATASETS.register("parquet", source="the layout of image classification sets on dataset hubs")
def parquet(
    *,
    path: Annotated[str, Field(description="Folder that contains train*.parquet and test*.parquet.")],
    image_column: Annotated[str | None, Field(description="Column of encoded images.")] = None,
    label_column: Annotated[str | None, Field(description="Column of class numbers.")] = None,
    padding: Annotated[
        int | None, Field(ge=0, description="Padding of the crop, in pixels; by default an eighth of the size.")
    ] = None,
    flip: Annotated[bool, Field(description="Whether images may be mirrored.")] = True,
) -> Dataset:
    """Parquet files with one encoded image and one class number a row."""
    return parquet_folder("parquet", Path(path).expanduser(), image_column, label_column, padding=padding, flip=flip)


def parquet_folder(
    name: str,
    folder: Path,
    image_column: str | None = None,
    label_column: str | None = None,
    *,
    padding: int | None,
    flip: bool,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
) -> Dataset:
    """A dataset over the parquet files of a folder.

    Raises: UserError: if files or columns are missing or damaged; each message names the file and the remedy.
    """
    train_files, test_files = _files(folder, "train"), _files(folder, "test")
    schema = _schema(train_files[0])
    image_column = image_column or _image_column(schema, train_files[0])
    label_column = label_column or _label_column(schema, train_files[0])
    for file in (*train_files, *test_files):
        _check_columns(file, image_column, label_column)
    contents = [[file_id(file) for file in files] for files in (train_files, test_files)]
    num_classes = _num_classes(schema, train_files, label_column)
    return Dataset(
        name=name,
        origin=f"parquet files in {folder}",
        fingerprint=content_id(["parquet", image_column, label_column, *contents], length=32),
        num_classes=num_classes,
        decode=lambda: _decode_all(folder, train_files, test_files, image_column, label_column, num_classes),
        padding=_image_size(train_files[0], image_column) // 8 if padding is None else padding,
        flip=flip,
        mean=mean,
        std=std,
    )


def _files(folder: Path, split: str) -> list[Path]:
    files = sorted(path for path in folder.glob(f"**/{split}*.parquet") if path.is_file())
    if not files:
        raise UserError(f"{folder}: contains no {split}*.parquet. Put the files there, or give another path.")
    return files


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{file}: is damaged or not a parquet file: {reason}. Copy it again.") from error


def _schema(file: Path) -> pa.Schema:
    with _open(file) as opened:
        return opened.schema_arrow


def _image_column(schema: pa.Schema, file: Path) -> str:
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    raise UserError(
        f"{file}: expected a column of images (a struct with `bytes`), got {', '.join(schema.names)}. Add one."
    )


def _label_column(schema: pa.Schema, file: Path) -> str:
    for name in _LABEL_NAMES:
        if name in schema.names and pa.types.is_integer(schema.field(name).type):
            return name
    raise UserError(f"{file}: no column contains labels. Set label_column to one of: {', '.join(schema.names)}.")


def _check_columns(file: Path, image_column: str, label_column: str) -> None:
    schema = _schema(file)
    for column in (image_column, label_column):
        if column not in schema.names:
            raise UserError(f"{file}: has no column {column!r}. Use one of: {', '.join(schema.names)}.")
    kind = schema.field(label_column).type
    if not pa.types.is_integer(kind):
        raise UserError(
            f"{file}: column {label_column!r}: expected class numbers, got {kind}. Set another label_column."
        )


def _num_classes(schema: pa.Schema, files: list[Path], label_column: str) -> int:
    """From the files' metadata, else one more than the highest label."""
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        return len(metadata["info"]["features"][label_column]["names"])
    except (KeyError, ValueError, TypeError):
        return max(int(_labels(file, label_column).max()) for file in files) + 1


def _labels(file: Path, column: str) -> Labels:
    """int64 [N], at least one."""
    values = _column(file, column).combine_chunks()
    if values.null_count:
        raise UserError(f"{file}: column {column!r} has {values.null_count} empty rows. Label or remove them.")
    if not len(values):
        raise UserError(f"{file}: contains no rows. Copy the file again, or remove it.")
    labels: Labels = values.to_numpy().astype(np.int64)
    return labels


def _column(file: Path, column: str) -> pa.ChunkedArray:
    with _open(file) as opened, _damage_named(file, column):
        return opened.read(columns=[column]).column(column)


@contextmanager
def _damage_named(file: Path, column: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{file}: column {column!r} is damaged: {reason}. Copy the file again.") from error


def _image_size(file: Path, column: str) -> int:
    """Side of the first readable image, in pixels."""
    with _open(file) as opened, _damage_named(file, column):
        for batch in opened.iter_batches(batch_size=16, columns=[column]):
            for row, cell in enumerate(batch.column(0).to_pylist()):
                image = _decode_image(cell, row, file)
                if image is not None:
                    return int(image.shape[-1])
    raise UserError(f"{file}: contains no readable image. Copy the file again, or remove it.")


def _decode_all(
    folder: Path, train_files: list[Path], test_files: list[Path], image_column: str, label_column: str, classes: int
) -> Decoded:
    train_images, train_labels, train_gaps = _decode(train_files, image_column, label_column, classes)
    test_images, test_labels, test_gaps = _decode(test_files, image_column, label_column, classes)
    if train_images.shape[1:] != test_images.shape[1:]:
        raise UserError(f"{folder}: train and test images differ in size. Resize them to one square size.")
    gaps = {**train_gaps, **{len(train_labels) + number: name for number, name in test_gaps.items()}}
    numbers, names = np.array(list(gaps), np.int64), np.array(list(gaps.values()), np.str_)
    return Decoded(train_images, train_labels, test_images, test_labels, numbers, names)


def _decode(
    files: list[Path], image_column: str, label_column: str, num_classes: int
) -> tuple[Images, Labels, dict[int, str]]:
    """Images and labels of a part, and the numbers and names of its unreadable images, which are black."""
    images: list[Images | None] = []
    labels: list[Labels] = []
    gaps: dict[int, str] = {}
    shapes: set[tuple[int, ...]] = set()
    for file in files:
        of_file = _labels(file, label_column)
        if of_file.min() < 0 or of_file.max() >= num_classes:
            odd = of_file.min() if of_file.min() < 0 else of_file.max()
            raise UserError(f"{file}: expected labels from 0 to {num_classes - 1}, got {odd}. Fix that row.")
        labels.append(of_file)
        encoded = _column(file, image_column).to_pylist()
        # Pillow releases the interpreter lock while it decodes.
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(partial(_decode_image, file=file), encoded, range(len(encoded))))
        gaps |= {len(images) + row: f"{file} row {row}" for row, image in enumerate(read) if image is None}
        images.extend(read)
        shapes |= {image.shape for image in read if image is not None}
        if len(shapes) > 1:
            raise UserError(f"{file}: images differ in size. Resize them to one square size.")
    if not shapes:
        raise UserError(f"{files[0]}: contains no readable image. Copy the file again, or remove it.")
    black = np.zeros(shapes.pop(), np.uint8)
    return np.stack([black if image is None else image for image in images]), np.concatenate(labels), gaps


def _decode_image(cell: Any, row: int, file: Path) -> Images | None:
    """uint8 [3, H, W] with H = W; None if it cannot be read."""
    try:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            pixels = np.asarray(image.convert("RGB"))
    except READING_ERRORS:
        return None
    if pixels.shape[0] != pixels.shape[1]:
        raise UserError(f"{file}: row {row}: {pixels.shape[1]}x{pixels.shape[0]} is not square. Crop or resize it.")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
