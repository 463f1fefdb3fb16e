"""Folders of images as people have them: other names of parts, leftovers of tools, links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kdas.data import DATASETS, Dataset
from kdas.data.files import ImageFiles
from kdas.errors import UserError


def built(folder: Path) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": "image_folder", "path": str(folder)}))


def files_of(dataset: Dataset) -> ImageFiles:
    assert dataset.files is not None
    return dataset.files


@pytest.fixture
def folder(tmp_path: Path, write_folders: Callable[..., Path]) -> Path:
    return write_folders(tmp_path / "set", {"train": 4, "test": 2})


@pytest.mark.parametrize("name", ["val", "validation", "valid", "Valid"])
def test_validation_images_are_the_test_split_where_there_is_none_and_that_is_said(folder: Path, name: str) -> None:
    before = files_of(built(folder)).test_labels
    (folder / "test").rename(folder / name)
    with pytest.warns(UserWarning, match=rf"contains no test folder, so {name} is the test split\.$"):
        assert files_of(built(folder)).test_labels.tolist() == before.tolist()


def test_folders_of_parts_may_be_written_in_capitals(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part).rename(folder / part.title())
    assert len(files_of(built(folder))) == 18


@pytest.mark.parametrize("leftover", [".ipynb_checkpoints", "__MACOSX", "@eaDir"])
def test_hidden_folders_are_neither_classes_nor_parts_of_one(folder: Path, leftover: str) -> None:
    before = built(folder).fingerprint
    for place in ("train", "test", "train/ant", "test/cow"):
        shutil.copytree(folder / "train" / "bee", folder / place / leftover)
    assert built(folder).fingerprint == before


@pytest.mark.parametrize("leftover", ["._0.png", ".DS_Store", ".hidden.png", "Thumbs.db"])
def test_hidden_files_are_no_images(folder: Path, leftover: str) -> None:
    before = built(folder).fingerprint
    for part in ("train", "test"):
        (folder / part / "ant" / leftover).write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
        (folder / part / leftover).write_bytes(b"")
    assert built(folder).fingerprint == before


def test_links_that_form_a_circle_end(folder: Path) -> None:
    before = built(folder).fingerprint
    for number in range(3):
        (folder / "train" / "ant" / f"around-{number}").symlink_to(folder / "train" / "ant")
    assert built(folder).fingerprint == before


def test_linked_class_is_a_class(folder: Path, tmp_path: Path) -> None:
    before = built(folder).fingerprint
    (folder / "train" / "ant").rename(tmp_path / "elsewhere")
    (folder / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    assert built(folder).fingerprint == before


def test_pipe_named_like_an_image_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "train" / "ant" / "9.png")
    with pytest.raises(UserError, match=r"9\.png: expected an image file, got a folder or a device\. Remove it\."):
        built(folder)
