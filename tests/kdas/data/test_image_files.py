"""Datasets read from files: what is decoded, what is refused, what identifies a set, what is cached."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from kdas.data import DATASETS, Dataset, load_splits
from kdas.data.cache import decoded_once
from kdas.errors import UserError
from tests.places import SHARED

WriteImages = Callable[..., Path]
ORIGINALS = SHARED / "data" / "cifar10"
# For sets whose test part, of an image or two, lacks classes.
few_test_images = pytest.mark.filterwarnings("ignore:.* classes have no test images")
LABELS = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]


def open_parquet(folder: Path, name: str = "parquet", **parameters: Any) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": name, "path": str(folder), **parameters}))


@pytest.fixture
def folder(tmp_path: Path, write_images: WriteImages) -> Path:
    """Ten training and four test images of three classes, 8x8."""
    write_images(tmp_path / "set" / "train.parquet", LABELS, names=["a", "b", "c"])
    write_images(tmp_path / "set" / "test.parquet", [0, 1, 2, 0], seed=1, names=["a", "b", "c"])
    return tmp_path / "set"


def test_images_and_labels_are_decoded_as_they_were_encoded(folder: Path) -> None:
    dataset = open_parquet(folder)
    decoded = dataset.decode()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(decoded.train_images, pixels.transpose(0, 3, 1, 2))
    assert decoded.train_labels.tolist() == LABELS and decoded.test_labels.tolist() == [0, 1, 2, 0]
    assert decoded.train_images.dtype == np.uint8 and decoded.train_labels.dtype == np.int64
    assert decoded.test_images.shape == (4, 3, 8, 8)
    assert (dataset.num_classes, dataset.padding, dataset.flip) == (3, 1, True)


def test_class_count_comes_from_the_metadata_even_where_a_class_is_absent(
    tmp_path: Path, write_images: WriteImages
) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0, 1], names=["a", "b", "c", "d", "e"])
    with pytest.warns(UserWarning, match=r"3 of 5 classes have no training images, for example class 2\.$"):
        assert open_parquet(tmp_path).num_classes == 5


def test_class_count_without_metadata_is_the_highest_label_and_one(tmp_path: Path, write_images: WriteImages) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0, 6, 3])
    with pytest.warns(UserWarning, match=r"4 of 7 classes have no training images, for example class 1\.$"):
        assert open_parquet(tmp_path).num_classes == 7


@few_test_images
def test_several_files_are_read_in_the_order_of_their_names(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(tmp_path / "data" / "train-00001.parquet", [3, 4], seed=1)
    write_images(tmp_path / "data" / "train-00000.parquet", [0, 1, 2], seed=2)
    write_images(tmp_path / "data" / "test-00000.parquet", [0])
    assert open_parquet(tmp_path).decode().train_labels.tolist() == [0, 1, 2, 3, 4]


def test_columns_are_found_by_kind_or_taken_by_name(tmp_path: Path, write_images: WriteImages) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0, 1], image_column="photo", label_column="kind")
    decoded = open_parquet(tmp_path, label_column="kind", padding=2, flip=False).decode()
    assert decoded.train_labels.tolist() == [0, 1]
    with pytest.raises(
        UserError, match=r"train\.parquet: no column contains labels\. Set label_column to one of: photo, kind"
    ):
        open_parquet(tmp_path)


def test_gray_images_become_three_equal_channels(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes]
) -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0], encoded=[encode(gray)])
    (image,) = open_parquet(tmp_path).decode().train_images
    assert all(np.array_equal(channel, gray) for channel in image)


def torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def with_a_hole(path: Path) -> None:
    """Damage the image column and leave the frame of the file intact."""
    content = bytearray(path.read_bytes())
    content[10:400] = bytes(390)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("file", ["train.parquet", "test.parquet"])
def test_truncated_file_is_refused_by_name(folder: Path, file: str) -> None:
    torn(folder / file)
    with pytest.raises(UserError, match=rf"^[^\n]*{file}: is damaged or not a parquet file: [^\n]*\. Copy it again\.$"):
        open_parquet(folder)


@pytest.mark.parametrize("file", ["train.parquet", "test.parquet"])
def test_file_with_a_hole_in_its_images_is_refused_by_name(folder: Path, file: str) -> None:
    with_a_hole(folder / file)
    with pytest.raises(UserError, match=rf"^[^\n]*{file}: [^\n]*$"):
        open_parquet(folder).decode()


def test_missing_columns_are_refused_with_those_that_are_there(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pq.write_table(pa.table({"text": ["x"], "label": [0]}), tmp_path / f"{split}.parquet")
    with pytest.raises(UserError, match=r"train\.parquet: expected a column of images .*, got text, label\. Set image"):
        open_parquet(tmp_path)


def test_file_without_a_column_that_may_hold_images_is_told_how_to_save_them(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pq.write_table(pa.table({"image": [[0] * 3], "label": [0]}), tmp_path / f"{part}.parquet")
    with pytest.raises(
        UserError, match=r"got image \(list<element: int64>\), label \(int64\)\. Save each image as the"
    ):
        DATASETS.build({"name": "parquet", "path": str(tmp_path)})


def test_encrypted_file_is_called_so(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pq.write_table(pa.table({"image": [b""], "label": [0]}), tmp_path / f"{part}.parquet")
    content = (tmp_path / "train.parquet").read_bytes()
    (tmp_path / "train.parquet").write_bytes(content[:-4] + b"PARE")
    with pytest.raises(UserError, match=r"train\.parquet: is encrypted\. Save it without encryption"):
        DATASETS.build({"name": "parquet", "path": str(tmp_path)})


def test_column_missing_from_one_file_is_refused(folder: Path, write_images: WriteImages) -> None:
    write_images(folder / "test.parquet", [0], label_column="other")
    with pytest.raises(UserError, match=r"test\.parquet: has no column 'label'\. Use one of: img, other\."):
        open_parquet(folder)
    with pytest.raises(UserError, match=r"train\.parquet: has no column 'colour'\. Use one of: img, label\."):
        open_parquet(folder, label_column="colour")


@few_test_images
def test_image_that_is_not_square_is_refused(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes]
) -> None:
    square, wide = np.zeros((8, 8, 3), np.uint8), np.zeros((6, 9, 3), np.uint8)
    write_images(tmp_path / "train.parquet", [0, 1], encoded=[encode(square), encode(wide)])
    write_images(tmp_path / "test.parquet", [0])
    with pytest.raises(UserError, match=r"row 0 is 8x8 and .*train\.parquet row 1 is 9x6\. Set dataset\.resize to"):
        open_parquet(tmp_path)
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0, 1], encoded=[encode(wide), encode(wide)])
    with pytest.raises(UserError, match=r"images are not square: .*train\.parquet row 0 is 9x6\. Set dataset\.resize"):
        open_parquet(tmp_path)


def damaged_png(whole: bytes, damage: str) -> bytes | None:
    """Layout of a PNG: 8 signature, 4 length, "IHDR", 4 width, 4 height, 5 other, 4 checksum, 4 length, "IDAT", ..."""
    match damage:
        case "text":
            return b"no image"
        case "torn":
            return whole[: len(whole) // 2]
        case "short header":
            return whole[:11] + b"\x00" + whole[12:]
        case "broken chunk":
            return whole[:35] + b"\x00" + whole[36:]
        case "enormous":
            header = whole[12:16] + (60_000).to_bytes(4, "big") * 2 + whole[24:29]
            return whole[:12] + header + zlib.crc32(header).to_bytes(4, "big") + whole[33:]
    return None


@few_test_images
@pytest.mark.parametrize("damage", ["missing", "text", "torn", "short header", "broken chunk"])
def test_image_that_cannot_be_decoded_is_named_by_its_row(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes], damage: str
) -> None:
    whole = encode(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    write_images(tmp_path / "train.parquet", [0, 1, 2], encoded=[whole, whole, damaged_png(whole, damage)])
    write_images(tmp_path / "test.parquet", [0], size=32)
    dataset = open_parquet(tmp_path)
    with pytest.raises(
        UserError,
        match=r"^parquet files in .*: 1 of 4 images \(25\.0%\) cannot be read, more than 1%.*: .*parquet row 2[. ].*F",
    ):
        decoded_once(dataset)


def with_bad_rows(folder: Path, write_images: WriteImages, encode: Callable[..., bytes], bad: list[int]) -> Dataset:
    """200 training and 100 test images of four classes, some of the training images unreadable."""
    pixels = np.random.default_rng(3).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    encoded = [encode(image) for image in pixels]
    train = [b"no image" if row in bad else encoded[row] for row in range(200)]
    write_images(folder / "train.parquet", [row % 4 for row in range(200)], encoded=train)
    write_images(folder / "test.parquet", [row % 4 for row in range(100)], encoded=encoded[200:])
    return open_parquet(folder)


def test_few_unreadable_images_are_left_out_counted_and_named(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes], empty_cache: Path
) -> None:
    dataset = with_bad_rows(tmp_path, write_images, encode, [0, 7, 150])
    with pytest.warns(
        UserWarning,
        match=r"3 of 300 images cannot be read and are skipped: .*train\.parquet row 0, .* row 7, .* row 150\.$",
    ):
        splits = load_splits(dataset, 0.0, "cpu")
    assert len(splits.train) == 200
    (only,) = splits.train.read([torch.arange(200)])
    assert only[0].tolist() == [row for row in range(200) if row not in (0, 7, 150)]
    assert len(only[1]) == 197 and (only[1].flatten(1).float().std(dim=1) > 0).all()


def test_unreadable_images_do_not_move_the_normalisation(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes], empty_cache: Path
) -> None:
    whole = load_splits(with_bad_rows(tmp_path / "whole", write_images, encode, []), 0.0, "cpu")
    with pytest.warns(UserWarning, match="1 of 300 images cannot be read"):
        holed = load_splits(with_bad_rows(tmp_path / "holed", write_images, encode, [5]), 0.0, "cpu")
    kept = whole.train.images[torch.arange(200) != 5].float()
    torch.testing.assert_close(holed.mean.flatten(), kept.mean(dim=(0, 2, 3)))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            [1, 2, 3, 4],
            r"4 of 300 images \(1\.3%\) cannot be read, more than 1%: .*row 1, .*row 2, .*row 3, .*row 4\. Fix",
        ),
        (range(20), r"20 of 300 .*row 4 and 15 more\. Fix"),
    ],
    ids=["four", "twenty"],
)
def test_more_than_a_percent_of_unreadable_images_is_refused(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes], bad: list[int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        decoded_once(with_bad_rows(tmp_path, write_images, encode, bad))


def test_class_of_which_nothing_can_be_read_is_refused(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes]
) -> None:
    whole = [encode(np.full((8, 8, 3), row, np.uint8)) for row in range(200)]
    write_images(tmp_path / "train.parquet", [0] * 199 + [1], encoded=[*whole[:199], b"no image"])
    write_images(tmp_path / "test.parquet", [0, 1], encoded=whole[:2])
    with pytest.raises(
        UserError,
        match=r"1 of 202 images \(0\.5%\) cannot be read, including all training images of class 1: .*row 199\. Fix",
    ):
        decoded_once(open_parquet(tmp_path))


def test_size_is_taken_from_the_first_image_that_can_be_read(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes]
) -> None:
    whole = encode(np.zeros((16, 16, 3), np.uint8))
    write_images(tmp_path / "train.parquet", [0, 0], encoded=[b"no image", whole])
    write_images(tmp_path / "test.parquet", [0], encoded=[whole])
    assert open_parquet(tmp_path).padding == 2
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", [0, 0], encoded=[b"no image", b"nor here"])
    with pytest.raises(UserError, match=r"train\.parquet: contains no readable image\. Copy the file again"):
        open_parquet(tmp_path)


@few_test_images
@pytest.mark.parametrize("files", [["train.parquet"], ["train-0.parquet", "train-1.parquet"]], ids=["one", "two"])
def test_images_of_several_sizes_are_refused(
    tmp_path: Path, write_images: WriteImages, encode: Callable[..., bytes], files: list[str]
) -> None:
    images = [encode(np.zeros((size, size, 3), np.uint8)) for size in (8, 16)]
    for index, file in enumerate(files):
        part = images[index::2] if len(files) == 2 else images
        write_images(tmp_path / file, list(range(len(part))), encoded=part)
    write_images(tmp_path / "test.parquet", [0])
    with pytest.raises(
        UserError,
        match=r"differ in size: .*train.* is 8x8 and .*train.* is 16x16\. Set dataset\.resize to one size, .* 8",
    ):
        open_parquet(tmp_path)


def test_folder_without_files_is_refused(tmp_path: Path, write_images: WriteImages) -> None:
    with pytest.raises(UserError, match=r"none: no such folder\. Give the folder that contains train\*\.parquet and"):
        open_parquet(tmp_path / "none")
    with pytest.raises(UserError, match=r"contains no train\*\.parquet\. Put the files there, or give another path\."):
        open_parquet(tmp_path)
    write_images(tmp_path / "train.parquet", [0])
    with pytest.raises(
        UserError, match=r"contains no test\*\.parquet or validation\*\.parquet, only train\.parquet\. Put"
    ):
        open_parquet(tmp_path)


@pytest.mark.parametrize(
    ("labels", "names"), [([0, 1, 5], ["a", "b"]), ([0, -1, 1], ["a", "b"]), ([0, None, 1], None), ([], None)], ids=str
)
def test_labels_that_are_no_class_numbers_are_refused(
    tmp_path: Path, write_images: WriteImages, labels: list[int | None], names: list[str] | None
) -> None:
    for split in ("train", "test"):
        write_images(tmp_path / f"{split}.parquet", pa.array(labels, pa.int64()), names=names)
    with pytest.raises(UserError, match=r"train\.parquet: "):
        open_parquet(tmp_path).decode()


def test_set_too_small_to_hold_out_a_part_of_every_class_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"validation: 0\.1 of the \d+ samples of class \d+ is 0, so one part"):
        load_splits(open_parquet(folder), 0.1, "cpu")


def test_set_is_identified_by_content_and_not_by_where_it_lies(
    folder: Path, tmp_path: Path, write_images: WriteImages
) -> None:
    before = open_parquet(folder)
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert open_parquet(copy) == before and open_parquet(copy).fingerprint == before.fingerprint
    write_images(copy / "test.parquet", [0, 1, 2, 0], seed=9, names=["a", "b", "c"])
    assert open_parquet(copy).fingerprint != before.fingerprint


def test_moving_a_file_from_test_to_train_makes_another_set(tmp_path: Path, write_images: WriteImages) -> None:
    write_images(tmp_path / "train-0.parquet", [0, 1], seed=0)
    write_images(tmp_path / "test-0.parquet", [0, 1], seed=1)
    write_images(tmp_path / "test-1.parquet", [0, 1], seed=2)
    before = open_parquet(tmp_path).fingerprint
    (tmp_path / "test-0.parquet").rename(tmp_path / "train-1.parquet")
    assert open_parquet(tmp_path).fingerprint != before


def cifar_files(folder: Path, write_images: WriteImages, num_classes: int, **columns: Any) -> Path:
    for split in ("train", "test"):
        write_images(folder / f"{split}.parquet", list(range(num_classes)), **columns)
    return folder


def test_cifar10_is_read_from_a_local_parquet_copy(tmp_path: Path, write_images: WriteImages) -> None:
    dataset = open_parquet(cifar_files(tmp_path, write_images, 10), name="cifar10")
    assert (dataset.name, dataset.padding, dataset.flip) == ("cifar10", 4, True)
    assert dataset.decode().train_labels.tolist() == list(range(10))


def test_cifar100_is_normalised_as_its_shared_checkpoints_were(tmp_path: Path, write_images: WriteImages) -> None:
    splits = load_splits(open_parquet(cifar_files(tmp_path, write_images, 100), name="cifar100"), 0.0, "cpu")
    torch.testing.assert_close(splits.mean.flatten() / 255, torch.tensor([0.5071, 0.4867, 0.4408]))
    torch.testing.assert_close(splits.std.flatten() / 255, torch.tensor([0.2675, 0.2565, 0.2761]))


@pytest.mark.parametrize(
    ("name", "num_classes", "fitting"),
    [("cifar100", 10, "cifar10"), ("cifar10", 100, "cifar100"), ("cifar10", 4, r"\{name: parquet, path: \.\.\.\}")],
)
def test_files_of_the_other_cifar_are_refused(
    tmp_path: Path, write_images: WriteImages, name: str, num_classes: int, fitting: str
) -> None:
    cifar_files(tmp_path, write_images, num_classes)
    with pytest.raises(
        UserError, match=rf"classes for {name}, got {num_classes}\. Set dataset: {fitting}, or give DATA"
    ):
        open_parquet(tmp_path, name=name)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_in_a_folder_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"none: no such folder\. Put {name} there, or give DATA=<folder>\."):
        open_parquet(tmp_path / "none", name=name)


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="../shared/data/cifar10 is not there: no real images to look at")
def test_real_cifar10_has_its_classes_and_sizes() -> None:
    for file, rows in (("train.parquet", 50_000), ("test.parquet", 10_000)):
        assert pq.ParquetFile(ORIGINALS / file).metadata.num_rows == rows
    dataset = open_parquet(ORIGINALS, name="parquet")
    assert (dataset.num_classes, dataset.padding) == (10, 4)
    assert dataset.fingerprint == open_parquet(ORIGINALS, name="cifar10").fingerprint
