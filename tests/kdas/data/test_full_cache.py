"""A cache whose disk is full is done without."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from kdas.data import Dataset, cache
from kdas.data.digits import digits
from kdas.data.loading import load_splits
from kdas.errors import UserError
from kdas.recipe.config import TeacherConfig
from kdas.teacher.obtain import obtain


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new cache on a disk that takes nothing."""

    def fsync(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "fsync", fsync)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    return tmp_path


@pytest.fixture
def dataset(full: Path) -> Dataset:
    with pytest.warns(UserWarning, match="digits-.*: not kept, since this disk is full"):
        return digits()


def test_images_that_cannot_be_kept_are_used_all_the_same(
    full: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_WORTH_KEEPING_BYTES", 0)
    with pytest.warns(UserWarning, match="not kept, since this disk is full"):
        decoded = cache.decoded_once(dataset)
    assert len(decoded.train_images) == len(dataset.decode().train_images)
    assert not list(full.rglob("*.npy"))


def test_a_teacher_that_could_not_be_kept_is_not_trained(dataset: Dataset) -> None:
    splits = load_splits(dataset, 0.2, "cpu")
    with pytest.raises(UserError, match=r"teachers: the teacher needs \d+ MB, and 0 MB are free\. Free some space, or"):
        obtain(TeacherConfig(model="resnet8"), dataset, 0.2, splits, "cpu")
