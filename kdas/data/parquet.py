"""Image classification sets in the parquet layout of dataset hubs."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError
from pydantic import Field

from kdas.cache import content_id, file_id
from kdas.data.plugin import DATASETS, Dataset, Decoded, Images, Labels
from kdas.records import UserError

_LABEL_NAMES = ("label", "labels", "fine_label", "target", "class")


@DATASETS.register("parquet", source="the layout of image classification sets on dataset hubs")
def parquet(
    *,
    path: Annotated[str, Field(description="The folder that holds train*.parquet and test*.parquet.")],
    image_column: Annotated[str | None, Field(description="The column of encoded images.")] = None,
    label_column: Annotated[str | None, Field(description="The column of class numbers.")] = None,
    padding: Annotated[int | None, Field(ge=0, description="Pixels of shift; default an eighth of the size.")] = None,
    flip: Annotated[bool, Field(description="Whether a mirrored image is the same class.")] = True,
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

    Raises: UserError: if files or columns are missing or damaged; each message names the file and the mend.
    """
    train_files, test_files = _files(folder, "train"), _files(folder, "test")
    schema = _schema(train_files[0])
    image_column = image_column or _image_column(schema, train_files[0])
    label_column = label_column or _label_column(schema, train_files[0])
    for file in (*train_files, *test_files):
        _check_columns(file, image_column, label_column)
    train = partial(_decode, train_files, image_column, label_column)
    test = partial(_decode, test_files, image_column, label_column)
    names = [image_column, label_column, *(file_id(file) for file in (*train_files, *test_files))]
    return Dataset(
        name=name,
        origin=f"parquet files in {folder}",
        fingerprint=content_id(["parquet", names], length=32),
        num_classes=_num_classes(schema, train_files, label_column),
        decode=lambda: Decoded(*train(), *test()),
        padding=_image_size(train_files[0], image_column) // 8 if padding is None else padding,
        flip=flip,
        mean=mean,
        std=std,
    )


def _files(folder: Path, split: str) -> list[Path]:
    files = sorted(path for path in folder.glob(f"**/{split}*.parquet") if path.is_file())
    if not files:
        raise UserError(f"{folder}: holds no {split}*.parquet. Put the files there or give another path.")
    return files


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{file}: is damaged or not parquet: {reason}. Copy it again.") from error


def _schema(file: Path) -> pa.Schema:
    with _open(file) as opened:
        return opened.schema_arrow


def _image_column(schema: pa.Schema, file: Path) -> str:
    for field in schema:
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0:
            return str(field.name)
    raise UserError(f"{file}: no column holds images (a struct with `bytes`). Columns: {', '.join(schema.names)}.")


def _label_column(schema: pa.Schema, file: Path) -> str:
    for name in _LABEL_NAMES:
        if name in schema.names and pa.types.is_integer(schema.field(name).type):
            return name
    raise UserError(f"{file}: no column holds labels. Name it as label_column: {', '.join(schema.names)}.")


def _check_columns(file: Path, *columns: str) -> None:
    present = _schema(file).names
    for column in columns:
        if column not in present:
            raise UserError(f"{file}: has no column {column!r}. Columns: {', '.join(present)}.")


def _num_classes(schema: pa.Schema, files: list[Path], label_column: str) -> int:
    try:
        metadata = json.loads((schema.metadata or {})[b"huggingface"])
        return len(metadata["info"]["features"][label_column]["names"])
    except (KeyError, ValueError, TypeError):
        return int(max(_column(file, label_column).combine_chunks().to_numpy().max() for file in files)) + 1


def _column(file: Path, column: str) -> pa.ChunkedArray:
    with _open(file) as opened:
        try:
            return opened.read(columns=[column]).column(column)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).split("\n", 1)[0].rstrip(".")
            raise UserError(f"{file}: column {column!r} is damaged: {reason}. Copy the file again.") from error


def _image_size(file: Path, column: str) -> int:
    with _open(file) as opened:
        first = next(opened.iter_batches(batch_size=1, columns=[column]))
    return int(_decode_image(first.column(0)[0].as_py(), file, 0).shape[-1])


def _decode(files: list[Path], image_column: str, label_column: str) -> tuple[Images, Labels]:
    images: list[Images] = []
    labels: list[Labels] = []
    for file in files:
        encoded = _column(file, image_column).to_pylist()
        # Pillow releases the interpreter lock while it decodes.
        with ThreadPoolExecutor() as pool:
            decoded = list(pool.map(lambda row, file=file: _decode_image(row[1], file, row[0]), enumerate(encoded)))
        sizes = {image.shape for image in decoded}
        if len(sizes) > 1:
            raise UserError(f"{file}: images differ in size ({len(sizes)} sizes). Resize them to one square size.")
        images.append(np.stack(decoded))
        labels.append(_column(file, label_column).combine_chunks().to_numpy().astype(np.int64))
    return np.concatenate(images), np.concatenate(labels)


def _decode_image(cell: Any, file: Path, row: int) -> Images:
    """uint8 [3, H, W] with H = W."""
    try:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, OSError, TypeError, KeyError) as error:
        raise UserError(f"{file}: row {row} holds no readable image. Mend or remove that row.") from error
    if pixels.shape[0] != pixels.shape[1]:
        raise UserError(f"{file}: row {row}: {pixels.shape[1]}x{pixels.shape[0]} is not square. Crop or resize it.")
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
