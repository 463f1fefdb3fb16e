"""Images that stay on disk: the same results as from memory with any number of workers, and no process left behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdas.clock import Calibration
from kdas.data import DATASETS, Draw, ImageSplits, load_splits
from kdas.data.splits import ResidentSplit
from kdas.data.streamed import StreamedSplit
from kdas.errors import UserError
from kdas.records import CurveRow
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs
from tests.places import ROOT

WriteFolders = Callable[..., Path]
ConfigOf = Callable[..., Any]
OF_THE_MACHINE = ("wall_s", "eval_s", "data_s", "cost_as_run_s")

# DataLoader warns about three workers on two cores; the tests want them.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_folders: WriteFolders) -> Path:
    """120 training and 45 test images, 12x10; one of the training images cannot be read."""
    folder = write_folders(tmp_path_factory.mktemp("streamed"), {"train": 40, "test": 15})
    (folder / "train" / "bee" / "3.png").write_bytes(b"no image")
    return folder


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Drop the cached splits: workers end with the splits that they read for."""
    yield
    load_splits.cache_clear()


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether the condition holds within two minutes; a busy machine may need that long to end a process."""
    until = time.monotonic() + 120
    while not condition() and time.monotonic() < until:
        time.sleep(0.1)
    return condition()


def splits_of(folder: Path, data_workers: int = 2, **parameters: Any) -> ImageSplits:
    part = {"name": "image_folder", "path": str(folder), "size": 8, "keep": "disk", **parameters}
    return load_splits(DATASETS.build(DATASETS.checked(part)), 0.1, "cpu", data_workers)


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_MACHINE} for row in rows]


@pytest.fixture
def rows_of(
    config_of: ConfigOf, calibration: Calibration, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[dict[str, Any]]]:
    """Trains a small trial and its teacher with these dataset parameters and workers; returns the curve."""

    def train(split: type, data_workers: int, **parameters: Any) -> list[dict[str, Any]]:
        # A cache of its own, so that each run also trains its teacher on the images as it read them.
        monkeypatch.setenv("KDAS_CACHE", str(tmp_path / f"{parameters}{data_workers}"))
        dataset = {"name": "image_folder", "path": str(folder), "size": 8, **parameters}
        config = config_of(dataset=dataset, data_workers=data_workers, evaluations=4, epochs=2, multi_crop=True)

        def trained() -> tuple[ImageSplits, list[CurveRow]]:
            inputs = load_inputs(config)
            return inputs.splits, list(Training(Trial(config, inputs), Surroundings(calibration)).rows())

        with pytest.warns(UserWarning, match=r"bee/3\.png"):
            splits, rows = trained()
        assert type(splits.train) is split
        return of_the_trial(rows)

    return train


def test_curve_is_the_same_from_memory_and_from_disk_by_one_worker_or_three(rows_of: Callable[..., Any]) -> None:
    from_memory = rows_of(ResidentSplit, 1, keep="memory")
    assert len(from_memory) >= 3 and from_memory[-1]["samples_trained"] < 2 * 108
    assert rows_of(StreamedSplit, 1, keep="disk") == from_memory
    assert rows_of(StreamedSplit, 3, keep="disk") == from_memory


def test_curve_of_drawn_crops_is_the_same_by_one_worker_or_three(rows_of: Callable[..., Any]) -> None:
    by_one = rows_of(StreamedSplit, 1, augment="resized_crop")
    assert len(by_one) >= 3
    assert rows_of(StreamedSplit, 3, augment="resized_crop") == by_one


@pytest.mark.filterwarnings("ignore:.*cannot be read and is skipped")
def test_pass_that_was_left_unfinished_disturbs_neither_the_next_nor_an_evaluation(folder: Path) -> None:
    splits = splits_of(folder, augment="resized_crop")
    batches = list(torch.arange(len(splits.train)).split(10))

    whole = [images for _, images in splits.training_batches(batches, Draw(1, 1))]
    workers = multiprocessing.active_children()
    assert len(workers) == 2
    for _ in range(3):
        left = splits.training_batches(batches, Draw(1, 2))
        next(left)
    evaluated = [len(labels) for labels, _ in splits.evaluation_batches(splits.test)]
    assert evaluated == [45]
    next(left)
    again = [images for _, images in splits.training_batches(batches, Draw(1, 1))]
    assert all(torch.equal(one, other) for one, other in zip(again, whole, strict=True))
    with pytest.raises(AssertionError, match="another pass has taken over the workers"):
        next(left)
    assert {worker.pid for worker in workers} < {worker.pid for worker in multiprocessing.active_children()}
    assert len(multiprocessing.active_children()) == 4

    del splits, left
    load_splits.cache_clear()
    gc.collect()
    assert comes_true(lambda: not multiprocessing.active_children())


LEFT_IN_THE_MIDDLE = """
import multiprocessing, sys, time, torch
from kdas.data import DATASETS, Draw, load_splits

if __name__ == "__main__":
    part = {"name": "image_folder", "path": sys.argv[1], "size": 8, "keep": "disk"}
    splits = load_splits(DATASETS.build(DATASETS.checked(part)), 0.1, "cpu", 1)
    left = splits.training_batches(torch.arange(100).split(4), Draw(1, 1))
    next(left)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    if sys.argv[2] == "is killed":
        time.sleep(250)
    raise SystemExit(7)
"""


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="no /proc: processes cannot be looked up")
@pytest.mark.slow
def test_program_that_ends_or_is_killed_in_the_middle_of_an_epoch_leaves_no_worker(
    tmp_path: Path, write_folders: WriteFolders
) -> None:
    folder = write_folders(tmp_path / "set", {"train": 40, "test": 5})
    script = tmp_path / "left.py"
    script.write_text(LEFT_IN_THE_MIDDLE, encoding="utf-8")
    where = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Both at once, since they spend nearly all of their time on loading torch.
    programs = [
        subprocess.Popen([sys.executable, script, folder, ending], stdout=subprocess.PIPE, text=True, env=where)
        for ending in ("ends", "is killed")
    ]
    workers = [int(program.stdout.readline()) for program in programs if program.stdout]
    programs[1].kill()
    assert [program.wait(timeout=200) for program in programs] == [7, -9]
    assert comes_true(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    for program in programs:
        program.communicate()


def test_unreadable_files_are_named_as_they_are_met_and_counted_once(folder: Path) -> None:
    splits = splits_of(folder)
    twice = [splits.train, splits.validation] * 2
    with pytest.warns(UserWarning, match=r"^image files in .*: .*bee/3\.png cannot be read and is skipped\.$") as met:
        read = [indices for part in twice for indices, _ in part.read(torch.arange(len(part)).split(30))]
    assert len(met) == 1 and sum(map(len, read)) == 2 * 119
    assert isinstance(splits.train, StreamedSplit) and splits.train.streams.unreadable.count == 1


def test_more_than_a_percent_of_unreadable_files_ends_the_run(tmp_path: Path, write_folders: WriteFolders) -> None:
    folder = write_folders(tmp_path, {"train": 40, "test": 15})
    for number in range(20, 30):
        (folder / "train" / "cow" / f"{number}.png").write_bytes(b"no image")
    splits = splits_of(folder, 1)
    with (
        pytest.warns(UserWarning, match="cannot be read and is skipped"),
        pytest.raises(UserError, match=r"2 of 165 images \(1\.2%\) cannot be read, more than 1%: .*cow.*cow.* Fix"),
    ):
        list(splits.training_batches(torch.arange(len(splits.train)).split(50), Draw(0, 1)))


def test_reading_ahead_does_not_draw_from_the_global_generator(folder: Path) -> None:
    before = torch.random.get_rng_state()
    splits = splits_of(folder, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (only,) = splits.test.read([torch.arange(3)])
    assert np.array_equal(only[0], [0, 1, 2])
    assert torch.equal(torch.random.get_rng_state(), before)
