"""Image classification sets in the parquet layout of dataset hubs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
from pydantic import Field

from kdas.data.cells import cells_in, find_image_column, path_ids
from kdas.data.decoding import DECODING_ERRORS, mapped, opened, rgb
from kdas.data.fewer import drawn
from kdas.data.hub_folder import HubFolder, hub_folder
from kdas.data.interface import DATASETS, Dataset, Decoded, Images, Labels, MaxSamples, Resize
from kdas.data.labels import LabelColumn, check_label_type, find_label_column, read_labels
from kdas.data.memory import check_room
from kdas.data.parquet_file import check_column, open_parquet
from kdas.data.pixels import square
from kdas.data.survey import Encoded, Survey, surveyed
from kdas.errors import UserError
from kdas.files.cache import content_id, file_id
from kdas.files.home import expanded
from kdas.parts.paths import LOCAL_FOLDER


@DATASETS.register("parquet", source="the layout of image classification sets on dataset hubs")
def parquet(
    *,
    path: Annotated[
        str, Field(min_length=1, description="Folder that contains train*.parquet and test*.parquet."), LOCAL_FOLDER
    ],
    image_column: Annotated[str | None, Field(description="Column of encoded images, or of paths.")] = None,
    label_column: Annotated[str | None, Field(description="Column of class numbers or names.")] = None,
    padding: Annotated[
        int | None,
        Field(ge=0, le=2048, description="Padding of the crop, in pixels; by default an eighth of the size."),
    ] = None,
    flip: Annotated[bool, Field(description="Whether images may be mirrored.")] = True,
    resize: Resize = None,
    max_samples: MaxSamples = None,
) -> Dataset:
    """Parquet files with one encoded image, or its path, and one class a row."""
    columns = (image_column, label_column)
    return parquet_folder(
        "parquet", expanded(path), *columns, padding=padding, flip=flip, size=resize, max_samples=max_samples
    )


def parquet_folder(
    name: str,
    folder: Path,
    image_column: str | None = None,
    label_column: str | None = None,
    *,
    usual_label: str = "",
    padding: int | None,
    flip: bool,
    mean: tuple[float, float, float] | None = None,
    std: tuple[float, float, float] | None = None,
    size: int | None = None,
    max_samples: int | None = None,
) -> Dataset:
    """A dataset over the parquet files of a folder.

    Args: usual_label: the label column of a set that is known by name, taken where it is there.
    Raises: UserError: if files or columns are missing or damaged; each message names the file and the remedy.
    """
    files = hub_folder(folder)
    schema = _schema(files.train[0])
    image_column = image_column or find_image_column(schema, files.train[0])
    label_column = label_column or (usual_label if usual_label in schema.names else find_label_column(schema, files))
    for file in files.files:
        _check_columns(file, image_column, label_column)
    labels = read_labels(files, label_column, schema)
    images = _Images(files, image_column, labels, *drawn(labels.train, labels.test, max_samples))
    contents = [[file_id(file) for file in part] for part in (files.train, files.test)]
    paths = path_ids(files, image_column)
    content = content_id(["parquet", image_column, label_column, *contents, *([paths] if paths else [])], length=32)
    survey = images.survey(content_id([content, max_samples], length=32), is_resized=size is not None)
    side = size or survey.sizes[0][0]
    return Dataset(
        name=name,
        origin=images.origin,
        fingerprint=survey.fingerprint(content),
        num_classes=labels.num_classes,
        decode=partial(images.decode, side),
        padding=side // 8 if padding is None else padding,
        flip=flip,
        mean=mean,
        std=std,
        size=size,
        max_samples=max_samples,
        class_names=labels.names,
    )


def _schema(file: Path) -> pa.Schema:
    with open_parquet(file) as opened_file:
        return opened_file.schema_arrow


def _check_columns(file: Path, image_column: str, label_column: str) -> None:
    schema = _schema(file)
    for column in (image_column, label_column):
        check_column(file, schema, column)
    check_label_type(file, label_column, schema.field(label_column).type)


@dataclass(frozen=True)
class _Images:
    """The images of a set, of which some rows of each part are used: `train` int64 [N] and `test` int64 [M]."""

    files: HubFolder
    column: str
    labels: LabelColumn
    train: Labels
    test: Labels

    @property
    def origin(self) -> str:
        return f"parquet files in {self.files.folder}"

    def encoded(self) -> Iterator[Encoded]:
        """The used rows of the training files, then those of the test files; a few of them are held at once."""
        for files, rows in ((self.files.train, self.train), (self.files.test, self.test)):
            begin = 0
            for file in files:
                end = begin + open_parquet(file).metadata.num_rows
                of_file = rows[(rows >= begin) & (rows < end)] - begin
                yield from cells_in(file, self.files.folder, self.column, of_file)
                begin = end

    def survey(self, content: str, *, is_resized: bool) -> Survey:
        """Raises: UserError: if no image can be read, or if they are not resized and not of one square size."""
        survey = surveyed(content, self.origin, self.encoded)
        if not survey.sizes:
            raise self._unreadable()
        if is_resized or (len(survey.sizes) == 1 and survey.sizes[0][0] == survey.sizes[0][1]):
            return survey
        survey = survey if survey.names else surveyed(content, self.origin, self.encoded, names=True)
        named = [
            f"{name} is {width}x{height}" for name, (width, height) in zip(survey.names, survey.sizes, strict=True)
        ]
        smallest = min(side for size in survey.sizes for side in size)
        what = "images differ in size" if len(named) > 1 else "images are not square"
        raise UserError(
            f"{self.origin}: {what}: {' and '.join(named)}. Set dataset.resize to one size, for example"
            f" {max(8, smallest)}."
        )

    def _unreadable(self) -> UserError:
        why = next((each.why for each in self.encoded() if each.why), "")
        if why:
            return UserError(
                f"{self.origin}: expected the image files that column {self.column!r} names, but {why}. Put them there."
            )
        return UserError(f"{self.files.train[0]}: contains no readable image. Copy the file again, or remove it.")

    def decode(self, side: int) -> Decoded:
        """All used images, at [side, side]. Raises: UserError: if they do not fit into memory."""
        num_train, num_images = len(self.train), len(self.train) + len(self.test)
        check_room(num_images * 3 * side**2, f"{self.origin}: {num_images:,} images of {side}x{side} pixels")
        images = np.zeros((num_images, 3, side, side), np.uint8)
        gaps: dict[int, str] = {}
        decoded = mapped(lambda each: (each, _pixels(each, side)), self.encoded())
        for number, (each, pixels) in enumerate(decoded):
            if pixels is None:
                gaps[number] = f"{each.name} ({each.why})" if each.why else each.name
            else:
                images[number] = pixels
        return Decoded(
            images[:num_train],
            self.labels.train[self.train],
            images[num_train:],
            self.labels.test[self.test],
            np.array(list(gaps), np.int64),
            np.array(list(gaps.values()), np.str_),
        )


def _pixels(encoded: Encoded, side: int) -> Images | None:
    """uint8 [3, side, side]; None if it cannot be read."""
    if encoded.source is None:
        return None
    try:
        with opened(encoded.source) as header:
            image = rgb(header)
            if image.size != (side, side):
                image = square(image, side)
            return np.asarray(image).transpose(2, 0, 1)
    except DECODING_ERRORS:
        return None
