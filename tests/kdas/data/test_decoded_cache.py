"""The decoded copy of a set: kept, compared with its checksums, and made again where it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from kdas.data import DATASETS, Dataset, Decoded
from kdas.data import cache as decoded_cache
from kdas.data.cache import decoded_once
from kdas.files.cache import cache_root

WriteImages = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path, write_images: WriteImages) -> Path:
    """Ten training and four test images of three classes, 8x8."""
    write_images(tmp_path / "set" / "train.parquet", [0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    write_images(tmp_path / "set" / "test.parquet", [0, 1, 2, 0], seed=1)
    return tmp_path / "set"


def open_parquet(folder: Path) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": "parquet", "path": str(folder)}))


@pytest.fixture
def counted(folder: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Dataset, list[Decoded]]:
    """A dataset that is worth caching, and the results of every decoding that really ran."""
    monkeypatch.setattr(decoded_cache, "_WORTH_KEEPING_BYTES", 0)
    dataset = open_parquet(folder)
    decoded: list[Decoded] = []
    decode = dataset.decode

    def counting() -> Decoded:
        decoded.append(decode())
        return decoded[-1]

    object.__setattr__(dataset, "decode", counting)
    return dataset, decoded


def same(one: Decoded, other: Decoded) -> bool:
    return all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_decoded_images_are_kept_and_read_again(counted: tuple[Dataset, list[Decoded]]) -> None:
    dataset, decoded = counted
    first = decoded_once(dataset)
    again = decoded_once(dataset)
    assert len(decoded) == 1
    assert same(first, again) and isinstance(again.train_images, np.memmap)
    assert torch.from_numpy(again.train_images).dtype == torch.uint8


def test_small_sets_are_not_worth_keeping(folder: Path, empty_cache: Path) -> None:
    decoded_once(open_parquet(folder))
    assert not (empty_cache / "decoded").exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "garbage", "one byte", "zeros", "checksums"])
def test_damaged_copy_is_decoded_again_with_a_line(counted: tuple[Dataset, list[Decoded]], damage: str) -> None:
    dataset, decoded = counted
    decoded_once(dataset)
    folder = cache_root() / "decoded" / dataset.fingerprint
    file = folder / ("checksums.json" if damage == "checksums" else "train_images.npy")
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[-1] ^= 1
    damaged = {"torn": whole[:-100], "one byte": bytes(changed), "zeros": whole[:200] + bytes(len(whole) - 200)}
    file.write_bytes({**damaged, "empty": b"", "garbage": b"x" * 300, "checksums": b"{"}.get(damage, b""))
    if damage == "missing":
        file.unlink()
    with pytest.warns(
        UserWarning, match=r"^[^\n]*: the copy of the decoded images is damaged\. Decoding them again\.$"
    ):
        assert same(decoded_once(dataset), decoded[0]) and len(decoded) == 2
    assert same(decoded_once(dataset), decoded[0]) and len(decoded) == 2


def test_copy_of_a_version_without_checksums_is_decoded_again(counted: tuple[Dataset, list[Decoded]]) -> None:
    dataset, decoded = counted
    decoded_once(dataset)
    (cache_root() / "decoded" / dataset.fingerprint / "checksums.json").unlink()
    assert same(decoded_once(dataset), decoded[0]) and len(decoded) == 2


def test_kept_copy_still_says_what_is_missing_from_it(
    tmp_path: Path,
    write_images: WriteImages,
    encode: Callable[..., bytes],
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoded_cache, "_WORTH_KEEPING_BYTES", 0)
    image = encode(np.full((8, 8, 3), 9, np.uint8))
    write_images(
        tmp_path / "train.parquet", [0] * 200, encoded=[b"no image" if row == 9 else image for row in range(200)]
    )
    write_images(tmp_path / "test.parquet", [0] * 100)
    dataset = open_parquet(tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 300 .*row 9"):
        first = decoded_once(dataset)
    object.__setattr__(dataset, "decode", lambda: pytest.fail("decoded a second time"))
    with pytest.warns(UserWarning, match=r"1 of 300 .*row 9"):
        again = decoded_once(dataset)
    assert same(first, again)
