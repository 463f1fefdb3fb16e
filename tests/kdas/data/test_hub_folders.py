"""Parquet files in the layouts of dataset hubs: which files are which part, and where images and labels are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdas.data import DATASETS, Dataset
from kdas.data.hub_folder import hub_folder
from kdas.errors import UserError

WriteImages = Callable[..., Path]
Encode = Callable[..., bytes]
LABELS = [0, 1, 2, 0]
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def built(folder: Path, **parameters: Any) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": "parquet", "path": str(folder), **parameters}))


@pytest.fixture
def files(tmp_path: Path, write_images: WriteImages) -> Callable[..., Path]:
    """Writes files of four images each, with other pixels in each, by their names."""

    def write(*names: str) -> Path:
        for seed, name in enumerate(names):
            write_images(tmp_path / "set" / name, LABELS, seed=seed)
        return tmp_path / "set"

    return write


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("default/train/0000.parquet", "default/test/0000.parquet"),
        ("default/partial-train/0000.parquet", "default/test/0000.parquet"),
        ("data/train-00000-of-00001-abc.parquet", "data/test-00000-of-00001-abc.parquet"),
        ("train/train-0.parquet", "test/test-0.parquet"),
        ("a/train.parquet", "b/test.parquet"),
        ("Train.parquet", "Test.parquet"),
        ("training.parquet", "testing.parquet"),
        ("trainset.parquet", "testset.parquet"),
    ],
)
def test_parts_are_found_by_the_names_of_files_or_folders(files: Callable[..., Path], train: str, test: str) -> None:
    decoded = built(files(train, test)).decode()
    first = [np.random.default_rng(seed).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8) for seed in (0, 1)]
    assert np.array_equal(decoded.train_images, first[0].transpose(0, 3, 1, 2))
    assert np.array_equal(decoded.test_images, first[1].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["validation-00000-of-00001", "valid", "val", "dev", "default/validation/0000"])
def test_validation_files_are_the_test_split_where_there_is_none_and_that_is_said(
    files: Callable[..., Path], name: str
) -> None:
    last = name.rpartition("/")[2]
    with pytest.warns(UserWarning, match=rf"contains no test\*\.parquet, so {last}\.parquet is the test split\.$"):
        dataset = built(files("train.parquet", f"{name}.parquet"))
    assert len(dataset.decode().test_labels) == 4


def test_validation_files_beside_test_files_change_nothing(files: Callable[..., Path]) -> None:
    before = built(files("train.parquet", "test.parquet")).fingerprint
    assert built(files("train.parquet", "test.parquet", "validation.parquet")).fingerprint == before


def test_hidden_files_and_folders_are_no_part(files: Callable[..., Path]) -> None:
    before = built(files("train.parquet", "test.parquet")).fingerprint
    folder = files("train.parquet", "test.parquet", ".ipynb_checkpoints/train-checkpoint.parquet")
    (folder / "._train.parquet").write_bytes(b"no parquet")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "train.parquet").write_bytes(b"no parquet")
    assert built(folder).fingerprint == before


def test_two_configurations_are_not_merged(files: Callable[..., Path]) -> None:
    names = [f"{each}/{part}-0.parquet" for each in ("cropped", "full") for part in ("train", "test")]
    folder = files(*names)
    with pytest.raises(
        UserError, match=r"set: contains more than one set: in .*/cropped and in .*/full\. Set path to one of these"
    ):
        built(folder)
    assert len(built(folder / "full").decode().train_labels) == 4


def test_parts_in_several_folders_are_one_set_where_none_is_whole(files: Callable[..., Path]) -> None:
    folder = files("one/train-0.parquet", "two/train-1.parquet", "three/test.parquet")
    assert len(built(folder).decode().train_labels) == 8


def test_two_files_that_may_be_the_same_part_are_refused(files: Callable[..., Path]) -> None:
    folder = files("train.parquet", "training_extra.parquet", "test.parquet")
    with pytest.raises(
        UserError, match=r"train\.parquet: its name stands for the same part as training_extra\.parquet\. M"
    ):
        built(folder)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:abc\n",
            r"is a pointer of Git LFS, not the data\. Run",
        ),
        (b"<!DOCTYPE html><html></html>", r"is a web page, not the data\. Download"),
        (b"", r"is damaged or not a parquet file: .*\. Copy it again\."),
    ],
    ids=["lfs", "web page", "empty"],
)
def test_file_that_is_something_else_is_called_by_its_name(
    files: Callable[..., Path], content: bytes, cause: str
) -> None:
    folder = files("train.parquet", "test.parquet")
    (folder / "test.parquet").write_bytes(content)
    with pytest.raises(UserError, match=rf"^[^\n]*test\.parquet: {cause}[^\n]*$"):
        built(folder)


def write_cells(folder: Path, cells: list[Any], kind: pa.DataType, column: str = "image") -> Path:
    for part in ("train", "test"):
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table({column: pa.array(cells, kind), "label": pa.array([0, 1])})
        pq.write_table(table, folder / f"{part}.parquet")
    return folder


@pytest.fixture
def two_images(encode: Encode) -> list[bytes]:
    return [encode(np.full((8, 8, 3), grey, np.uint8)) for grey in (50, 200)]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary_view()], ids=str)
@pytest.mark.parametrize("column", ["image", "whatever"])
def test_plain_bytes_are_images(tmp_path: Path, two_images: list[bytes], kind: pa.DataType, column: str) -> None:
    decoded = built(write_cells(tmp_path, two_images, kind, column)).decode()
    assert decoded.train_images[:, 0, 0, 0].tolist() == [50, 200]


def write_files(folder: Path, images: list[bytes]) -> None:
    (folder / "img").mkdir(parents=True)
    for number, content in enumerate(images):
        (folder / "img" / f"{number}.png").write_bytes(content)


@pytest.mark.parametrize("form", ["struct", "text"])
@pytest.mark.parametrize("beside", ["file", "set"])
def test_paths_are_read_below_the_file_or_the_sets_folder(
    tmp_path: Path, two_images: list[bytes], form: str, beside: str
) -> None:
    paths = ["img/0.png", "img/1.png"]
    cells, kind = (
        ([{"bytes": None, "path": each} for each in paths], STRUCT) if form == "struct" else (paths, pa.string())
    )
    write_cells(tmp_path / "data", cells, kind)
    write_files(tmp_path / "data" if beside == "file" else tmp_path, two_images)
    dataset = built(tmp_path)
    assert dataset.decode().train_images[:, 0, 0, 0].tolist() == [50, 200]
    image = tmp_path / ("data" if beside == "file" else "") / "img" / "1.png"
    image.write_bytes(image.read_bytes() + b"one more")
    assert built(tmp_path).fingerprint != dataset.fingerprint


def test_bytes_win_over_a_path_and_gaps_are_filled_by_it(tmp_path: Path, two_images: list[bytes]) -> None:
    write_cells(tmp_path, [{"bytes": two_images[0], "path": "x.png"}, {"bytes": None, "path": "img/1.png"}], STRUCT)
    write_files(tmp_path, two_images)
    assert built(tmp_path).decode().train_images[:, 0, 0, 0].tolist() == [50, 200]


def test_paths_without_files_are_the_cause_that_is_named(tmp_path: Path) -> None:
    write_cells(tmp_path, [{"bytes": None, "path": f"img/{n}.png"} for n in range(2)], STRUCT)
    message = r"expected the image files that column 'image' names, but .*/img/0\.png: no such file\. Put them there\.$"
    with pytest.raises(UserError, match=message):
        built(tmp_path)


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "img/../../secret.png"])
def test_paths_never_lead_out_of_the_set(tmp_path: Path, two_images: list[bytes], path: str) -> None:
    (tmp_path / "secret.png").write_bytes(two_images[0])
    folder = write_cells(tmp_path / "set", [{"bytes": None, "path": path}] * 2, STRUCT)
    with pytest.raises(UserError, match=rf"row 0: the path {path} leads out of .*set\. Use paths below that folder\."):
        built(folder)


def test_column_of_another_kind_is_refused(tmp_path: Path, two_images: list[bytes]) -> None:
    folder = write_cells(tmp_path, two_images, pa.binary())
    with pytest.raises(UserError, match=r"column 'label': expected images or paths, got int64\. Set another image_c"):
        built(folder, image_column="label")


def test_folder_of_arrow_files_is_told_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "data-00000-of-00001.arrow").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"contains no train\*\.parquet\. It holds Arrow files: save each split with to_p"
    ):
        hub_folder(tmp_path)
