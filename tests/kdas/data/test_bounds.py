"""Files that are small and claim to be large are refused before the work is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdas.data import DATASETS, decoding, labels, memory, parquet_file, survey
from kdas.data.cells import cells_in
from kdas.errors import UserError
from kdas.files import limits

pytestmark = pytest.mark.usefixtures("empty_cache")


def built(name: str, path: Path, **parameters: Any) -> Any:
    return DATASETS.build({"name": name, "path": str(path), **parameters})


def black(folder: Path, mode: str, side: int = 64) -> None:
    for part in ("train", "test"):
        for name in ("a", "b"):
            (folder / part / name).mkdir(parents=True)
            for number in range(3):
                Image.new(mode, (side, side)).save(folder / part / name / f"{number}.png")


def parquet(folder: Path, images: pa.Array, labels: Any, **options: Any) -> Path:
    for part in ("train", "test"):
        pq.write_table(pa.table({"image": images, "label": labels}), folder / f"{part}.parquet", **options)
    return folder


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_large_images_in_small_files_are_refused_before_any_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    black(tmp_path, mode)
    monkeypatch.setattr(survey, "_LARGE_PIXELS", 1_000)
    monkeypatch.setattr(survey, "_MOST_SHRUNK_PIXELS", 4_000)
    monkeypatch.setattr(survey, "_MOST_PIXELS_OF_A_BYTE", 1)
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(decoding, "grey_values", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(survey, "grey_values", lambda *_: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"\.png has 0 million pixels in 1 kB, far more than a photograph of this size"):
        built("image_folder", tmp_path)


def test_small_images_may_shrink_as_they_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black(tmp_path, "RGB")
    monkeypatch.setattr(survey, "_MOST_SHRUNK_PIXELS", 1)
    monkeypatch.setattr(survey, "_MOST_PIXELS_OF_A_BYTE", 0)
    assert built("image_folder", tmp_path).num_classes == 2


def test_large_images_are_decoded_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    black(tmp_path, "RGBA")
    monkeypatch.setattr(decoding, "_LARGE_PIXELS", 1_000)
    at_once: list[bool] = []
    original = decoding.rgb

    def seen(image: Any) -> Any:
        at_once.append(decoding._ONE_AT_A_TIME.locked())
        return original(image)

    monkeypatch.setattr("kdas.data.pixels.rgb", seen)
    built("image_folder", tmp_path, size=8).decode()
    assert at_once == [True] * 12


def test_rows_that_no_file_of_this_size_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_file, "MOST_ROWS", 99)
    parquet(tmp_path, pa.array([b"x"] * 100), [0] * 100)
    with pytest.raises(UserError, match=r"train\.parquet: has 100 rows, and at most 99 are read into memory\. Store"):
        built("parquet", tmp_path)


def test_cells_that_unpack_to_gigabytes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_ALWAYS_ALLOWED_BYTES", 100_000)
    images = pa.array([bytes([number]) * 30_000 for number in range(100)])
    parquet(tmp_path, images, [0, 1] * 50, compression="zstd", use_dictionary=False)
    with pytest.raises(
        UserError, match=r"train\.parquet: would take 0\.0 GB unpacked, over 10 times its size\. Store im"
    ):
        built("parquet", tmp_path)


def test_one_image_in_every_row_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_ALWAYS_ALLOWED_BYTES", 100_000)
    one = pa.DictionaryArray.from_arrays(pa.array(np.zeros(5_000, np.int32)), pa.array([b"image"]))
    parquet(tmp_path, one.cast(pa.binary()), [0, 1] * 2_500)
    with pytest.raises(UserError, match=r"train\.parquet: its images take over 0\.0 GB, more than 10 times its size"):
        built("parquet", tmp_path)


def test_large_row_group_is_read_a_piece_at_a_time(tmp_path: Path) -> None:
    images = [bytes([number % 256]) * 5_000 for number in range(4_000)]  # 20 MB
    labels = [number % 2 for number in range(4_000)]
    parquet(tmp_path, pa.array(images), labels, compression="none", use_dictionary=False)
    assert pq.ParquetFile(tmp_path / "train.parquet").num_row_groups == 1
    del images
    before, most, num_read = pa.total_allocated_bytes(), 0, 0
    for each in cells_in(tmp_path / "train.parquet", tmp_path, "image", np.arange(4_000)):
        assert each.source == bytes([num_read % 256]) * 5_000
        most, num_read = max(most, pa.total_allocated_bytes() - before), num_read + 1
    assert num_read == 4_000 and most < 10_000_000


def test_names_are_counted_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of millions of names, no more than the allowed ones are looked at."""
    monkeypatch.setattr(labels, "MAX_CLASSES", 250)
    monkeypatch.setattr(labels, "_ROWS_AT_ONCE", 100)
    parquet(tmp_path, pa.array([b"x"] * 10_000), [f"name {number}" for number in range(10_000)])
    seen: list[int] = []
    original = labels._check_number

    def counted(file: Path, column: str, number: int) -> None:
        seen.append(number)
        original(file, column, number)

    monkeypatch.setattr(labels, "_check_number", counted)
    with pytest.raises(UserError, match=r"column 'label': expected at most 250 classes, got more names\."):
        built("parquet", tmp_path)
    assert seen == [100, 200, 300]


def test_long_names_that_repeat_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_MOST_NAME_BYTES", 1_000)
    parquet(tmp_path, pa.array([b"x"] * 100), ["a long name"] * 100)
    with pytest.raises(UserError, match=r"train\.parquet: column 'label': its names take over 0 MB\. Number the cl"):
        built("parquet", tmp_path)


def test_set_that_grows_beyond_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,797 digits at 2,048 pixels take 22 GB."""
    digits = DATASETS.build({"name": "digits", "resize": 2048})
    monkeypatch.setattr(memory, "_free_bytes", lambda: 20_000_000_000)
    with pytest.raises(UserError, match=r"1,797 images of 2048x2048 pixels need 22\.6 GB of memory, but 20\.0 GB are"):
        digits.decode()
