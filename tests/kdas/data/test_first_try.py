"""Images brought to another size, and a part of a set for a first try: parameters that every set has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdas.data import DATASETS, Dataset, load_splits, memory
from kdas.data import cache as decoded_cache
from kdas.data.cache import decoded_once
from kdas.data.fewer import drawn
from kdas.errors import UserError

WriteImages = Callable[..., Path]
WriteFolders = Callable[..., Path]
Encode = Callable[..., bytes]


def built(name: str, folder: Path | None = None, **parameters: Any) -> Dataset:
    part = {"name": name, **({"path": str(folder)} if folder else {}), **parameters}
    return DATASETS.build(DATASETS.checked(part))


@pytest.fixture
def hub(tmp_path: Path, write_images: WriteImages) -> Path:
    """Forty training and twenty test images of ten classes, 8x8."""
    for part, number in (("train", 40), ("test", 20)):
        write_images(tmp_path / "hub" / f"{part}.parquet", [row % 10 for row in range(number)])
    return tmp_path / "hub"


@pytest.fixture
def set_of(hub: Path, tmp_path: Path, write_folders: WriteFolders) -> Callable[..., Dataset]:
    """A set of at least three classes by its name."""
    folders = write_folders(tmp_path / "folders", {"train": 6, "test": 4, "val": 4})
    places = {"digits": None, "parquet": hub, "cifar10": hub, "image_folder": folders, "imagenet": folders}
    return lambda name, **parameters: built(name, places[name], **parameters)


every_set = pytest.mark.parametrize("name", ["digits", "parquet", "cifar10", "image_folder", "imagenet"])


@every_set
def test_every_set_is_brought_to_another_size(set_of: Callable[..., Dataset], name: str) -> None:
    dataset, before = set_of(name, resize=16), set_of(name)
    assert dataset.decode().train_images.shape[1:] == dataset.decode().test_images.shape[1:] == (3, 16, 16)
    assert dataset.identity != before.identity and dataset.fingerprint == before.fingerprint
    assert dataset.padding == (0 if name == "imagenet" else 2)


@every_set
def test_every_set_gives_a_balanced_part_of_itself(set_of: Callable[..., Dataset], name: str) -> None:
    before, dataset = set_of(name), set_of(name, max_samples=11)
    decoded = dataset.decode()
    for labels in (decoded.train_labels, decoded.test_labels):
        counts = np.bincount(labels, minlength=before.num_classes)
        assert len(labels) == 11 and counts.max() - counts.min() <= 1
    assert dataset.num_classes == before.num_classes
    assert dataset.identity != before.identity
    again = set_of(name, max_samples=11).decode()
    assert np.array_equal(decoded.train_images, again.train_images)


def test_part_is_made_of_images_with_their_own_labels(hub: Path) -> None:
    whole, part = built("parquet", hub).decode(), built("parquet", hub, max_samples=20).decode()
    labels_of = {
        image.tobytes(): label for image, label in zip(whole.train_images, whole.train_labels.tolist(), strict=True)
    }
    assert [labels_of[image.tobytes()] for image in part.train_images] == part.train_labels.tolist()
    assert len({image.tobytes() for image in part.train_images}) == 20


def test_classes_with_few_images_leave_their_share_to_the_others() -> None:
    labels = np.array([0] * 10 + [1] * 2 + [2] * 10)
    train, test = drawn(labels, labels[:11], 12)
    assert np.bincount(labels[train]).tolist() == [5, 2, 5]
    assert test.tolist() == list(range(11))


def test_part_of_fewer_images_than_classes_is_refused(hub: Path) -> None:
    with pytest.raises(UserError, match=r"max_samples: expected at least one image of each of 10 classes, got 9\. R"):
        built("parquet", hub, max_samples=9)


def test_part_does_not_depend_on_what_was_kept_of_the_whole(
    hub: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded_cache, "_WORTH_KEEPING_BYTES", 0)
    for parameters in ({}, {"max_samples": 10}, {"resize": 16}, {"resize": 16, "max_samples": 10}):
        for _ in range(2):
            images = decoded_once(built("parquet", hub, **parameters)).train_images
            assert images.shape[0] == parameters.get("max_samples", 40)
            assert images.shape[-1] == parameters.get("resize", 8)


def test_part_of_a_set_is_streamed_as_it_is_kept_in_memory(set_of: Callable[..., Dataset]) -> None:
    parts = [set_of("image_folder", max_samples=6, keep=keep) for keep in ("disk", "memory")]
    streamed, kept = (load_splits(part, 0.0, "cpu").train.labels.tolist() for part in parts)
    assert streamed == kept and len(kept) == 6


def test_images_of_several_sizes_become_one(tmp_path: Path, write_images: WriteImages, encode: Encode) -> None:
    images = [encode(np.full((side, side + 2, 3), 9 * side, np.uint8)) for side in (8, 12)]
    for part in ("train", "test"):
        write_images(tmp_path / f"{part}.parquet", [0, 1], encoded=images)
    dataset = built("parquet", tmp_path, resize=8)
    assert dataset.decode().train_images[:, 0, 4, 4].tolist() == [72, 108] and dataset.padding == 1


def test_set_that_does_not_fit_into_memory_is_refused_before_it_is_decoded(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_bytes = 60 * 3 * 8 * 8
    monkeypatch.setattr(memory, "_free_bytes", lambda: num_bytes - 1)
    with pytest.raises(
        UserError,
        match=r"^parquet files in .*: 60 images of 8x8 pixels need 0\.0 GB of memory, but 0\.0 GB are free\. S",
    ):
        built("parquet", hub).decode()
    monkeypatch.setattr(memory, "_free_bytes", lambda: num_bytes)
    built("parquet", hub).decode()
