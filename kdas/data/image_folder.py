"""Image files in folders: users' own sets, Tiny ImageNet and ImageNet. Nothing is downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from kdas.data.fewer import drawn
from kdas.data.files import (
    ImageFiles,
    check_folder,
    check_same_classes,
    check_tested_classes,
    classes_in,
    images_in,
    listed,
    warn_of_untested,
)
from kdas.data.interface import DATASETS, Augment, Dataset, Keep, MaxSamples, Resize
from kdas.data.pixels import decode_files
from kdas.data.split_names import TEST, TRAIN, VALIDATION, part_in
from kdas.data.survey import Encoded, surveyed
from kdas.errors import UserError
from kdas.files.cache import content_id
from kdas.files.home import expanded
from kdas.parts.paths import LOCAL_FOLDER

# Not measured, since a streamed set is never completely in memory, and results must not depend on where a set is kept.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_USUAL_SIZE = 64

FolderPath = Annotated[
    str, Field(min_length=1, description="Folder that contains train and test, or train and val."), LOCAL_FOLDER
]
KeepWhere = Annotated[
    Keep, Field(description="Where images are kept; auto uses memory if they fit. Results are the same.")
]
FixedViews = Annotated[
    int | None,
    Field(
        ge=1,
        description="Number of views of each image, drawn once, so that a teacher bank can hold them; unlimited by"
        " default.",
    ),
]
Channels = tuple[float, float, float]
Share = Annotated[float, Field(ge=0, le=1, description="Mean as a fraction of full brightness, in [0, 1].")]
Positive = Annotated[float, Field(gt=0, description="Standard deviation, over 0.")]


@DATASETS.register("image_folder", source="the layout of torchvision's ImageFolder")
def image_folder(
    *,
    path: FolderPath,
    size: Annotated[int, Field(ge=8, le=2048, description="Side of the square images, in pixels.")] = _USUAL_SIZE,
    augment: Annotated[Augment, Field(description="crop_flip for small images, resized_crop for photographs.")] = (
        "crop_flip"
    ),
    padding: Annotated[
        int | None,
        Field(ge=0, le=2048, description="Padding of the crop, in pixels; by default an eighth of the size."),
    ] = None,
    flip: Annotated[bool, Field(description="Whether images may be mirrored.")] = True,
    mean: Annotated[
        tuple[Share, Share, Share] | None, Field(description="Mean of each channel, in [0, 1]; by default ImageNet's.")
    ] = None,
    std: Annotated[
        tuple[Positive, Positive, Positive] | None, Field(description="Standard deviation of each channel, over 0.")
    ] = None,
    fixed_views: FixedViews = None,
    keep: KeepWhere = "auto",
    resize: Annotated[Resize, Field(description="The same as size, as other datasets call it.")] = None,
    max_samples: MaxSamples = None,
) -> Dataset:
    """Your own images: train/CLASS/* and test/CLASS/* (or, without test, val, validation or valid)."""
    folder, size = _existing(path), _side(size, resize)
    if (mean is None) != (std is None):
        raise UserError("dataset: expected both mean and std, or neither.")
    if padding is not None and padding >= size:
        raise UserError(
            f"dataset.padding: expected a value below the size {size}, got {padding}. Lower it, or crops could"
            " miss the image."
        )
    if augment == "resized_crop" and padding is not None:
        raise UserError(
            f"dataset.padding: {padding} only applies to crop_flip, since resized_crop does not pad. Remove it."
        )
    if augment == "resized_crop" and keep == "memory":
        raise UserError(
            "dataset.keep: memory only works with crop_flip, since resized_crop reads the files. Use auto or disk."
        )
    if augment == "crop_flip" and fixed_views is not None:
        raise UserError(
            "dataset.fixed_views: only applies to resized_crop, since crop_flip has few views anyway. Remove it."
        )
    return _dataset(
        "image_folder",
        *_own_listed_by_class(part_in(folder, TRAIN), _test_part(folder)),
        size=size,
        augment=augment,
        padding=size // 8 if padding is None else padding,
        flip=flip,
        fixed_views=fixed_views,
        mean=IMAGENET_MEAN if mean is None else (mean[0], mean[1], mean[2]),
        std=IMAGENET_STD if std is None else (std[0], std[1], std[2]),
        keep=keep,
        max_samples=max_samples,
    )


@DATASETS.register("tiny_imagenet", source="Le & Yang, 2015; the layout of tiny-imagenet-200.zip")
def tiny_imagenet(
    *, path: FolderPath, keep: KeepWhere = "auto", resize: Resize = None, max_samples: MaxSamples = None
) -> Dataset:
    """110,000 photographs of 64x64 pixels in 200 classes; the published validation part is the test split."""
    folder, size = _existing(path), resize or 64
    classes = classes_in(folder / "train")
    files = listed(folder, images_in(folder / "train", classes), _annotated(folder, classes))
    return _dataset("tiny_imagenet", files, classes, size=size, padding=size // 8, keep=keep, max_samples=max_samples)


@DATASETS.register("imagenet", source="Russakovsky et al., 2015; the layout of torchvision's ImageNet")
def imagenet(
    *, path: FolderPath, fixed_views: FixedViews = None, resize: Resize = None, max_samples: MaxSamples = None
) -> Dataset:
    """1.3 million photographs in 1,000 classes, at 224 pixels; the published validation part is the test split."""
    folder = _existing(path)
    return _dataset(
        "imagenet",
        *_listed_by_class(folder / "train", folder / "val"),
        size=resize or 224,
        augment="resized_crop",
        padding=0,
        fixed_views=fixed_views,
        max_samples=max_samples,
    )


def _dataset(
    name: str,
    files: ImageFiles,
    classes: Sequence[str],
    *,
    size: int,
    padding: int,
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    max_samples: int | None = None,
    **further: Any,
) -> Dataset:
    num_classes, origin = int(files.labels.max()) + 1, f"image files in {files.folder}"
    if max_samples is not None:
        files = files.taken(*drawn(files.train_labels, files.test_labels, max_samples))
    survey = surveyed(content_id([files.fingerprint, max_samples], length=32), origin, lambda: _encoded(files))
    dataset = Dataset(
        name=name,
        origin=origin,
        fingerprint=survey.fingerprint(files.fingerprint),
        num_classes=num_classes,
        decode=lambda: decode_files(files, dataset.views(size)),
        padding=0 if further.get("augment") == "resized_crop" else padding,
        mean=mean,
        std=std,
        files=files,
        size=size,
        max_samples=max_samples,
        class_names=tuple(classes),
        **further,
    )
    return dataset


def _encoded(files: ImageFiles) -> Iterator[Encoded]:
    for number in range(len(files)):
        path = files.path(number)
        yield Encoded(str(path), path)


def _existing(path: str) -> Path:
    folder = expanded(path)
    check_folder(folder, "Unpack the dataset there, or give another path.")
    return folder


def _side(size: int, resize: int | None) -> int:
    if resize is not None and size not in (_USUAL_SIZE, resize):
        raise UserError(f"dataset.resize: is the same as size, which is {size}. Give one of them.")
    return resize or size


def _test_part(folder: Path) -> Path:
    """The folder of test images, or of validation images where there is none."""
    test, validation = part_in(folder, TEST), part_in(folder, VALIDATION)
    if test.is_dir() or not validation.is_dir():
        return test
    warnings.warn(f"{folder}: contains no test folder, so {validation.name} is the test split.", stacklevel=2)
    return validation


def _listed_by_class(train: Path, test: Path) -> tuple[ImageFiles, list[str]]:
    """Both parts in the layout of torchvision's ImageFolder, in folders beside each other, and the classes."""
    classes = classes_in(train)
    check_same_classes(train.parent, classes, classes_in(test))
    return listed(train.parent, images_in(train, classes), images_in(test, classes)), classes


def _own_listed_by_class(train: Path, test: Path) -> tuple[ImageFiles, list[str]]:
    """The same for a user's own set, of which some classes may have no test images."""
    classes, tested = classes_in(train), classes_in(test)
    check_tested_classes(train.parent, classes, tested)
    files = listed(train.parent, images_in(train, classes), images_in(test, classes, tested))
    warn_of_untested(train.parent, sorted(set(classes) - set(tested)), len(classes))
    return files, classes


def _annotated(folder: Path, classes: list[str]) -> Iterator[tuple[Path, int]]:
    """Tiny ImageNet's validation images, with the classes from the table beside them."""
    table = folder / "val" / "val_annotations.txt"
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{table}: cannot be read. Unpack tiny-imagenet-200.zip again.") from error
    rows = [line.split("\t") for line in lines if line]
    if any(len(row) < 2 for row in rows):
        raise UserError(f"{table}: a line has no class. Unpack tiny-imagenet-200.zip again.")
    check_same_classes(folder, classes, (row[1] for row in rows))
    numbers = {name: label for label, name in enumerate(classes)}
    return ((table.parent / "images" / row[0], numbers[row[1]]) for row in sorted(rows))
