"""A bank over images on disk: it gives the curve of a live teacher, and trials with images in memory share it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdas.clock import Calibration, Work
from kdas.data import load_splits
from kdas.data.splits import ResidentSplit
from kdas.data.streamed import StreamedSplit
from kdas.records import CurveRow
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, find_dataset, load_inputs
from tests.kdas.own_parts import OneByOne

WriteFolders = Callable[..., Path]
Run = Callable[..., tuple[Training, list[dict[str, Any]]]]

pytestmark = pytest.mark.filterwarnings("ignore:.*cannot be read and")


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    """Drop the cached splits: workers end with the splits that they read for."""
    load_splits.cache_clear()
    yield
    load_splits.cache_clear()


@pytest.fixture
def run(
    config_of: Callable[..., Any],
    calibration: Calibration,
    write_folders: WriteFolders,
    tmp_path: Path,
    empty_cache: Path,
) -> Run:
    """Trains on 120 images in folders, one of which cannot be read.

    The teacher is shown its images one by one, so that bank and trial may ask it in batches of different sizes.
    """
    folder = write_folders(tmp_path / "set", {"train": 40, "test": 15})
    (folder / "train" / "bee" / "3.png").write_bytes(b"no image")

    def trained(bank: str, **parameters: Any) -> tuple[Training, list[dict[str, Any]]]:
        dataset = {"name": "image_folder", "path": str(folder), "size": 8, **parameters}
        config = config_of(dataset=dataset, data_workers=1, bank=bank, epochs=2, evaluations=4)
        inputs = load_inputs(config)
        model: Any = OneByOne(inputs.teacher.model)
        inputs = replace(inputs, teacher=replace(inputs.teacher, model=model))
        training = Training(Trial(config, inputs), Surroundings(calibration))
        return training, [learnt(row) for row in training.rows()]

    return trained


def learnt(row: CurveRow) -> dict[str, Any]:
    """What must agree with a live teacher: all but the trial's name and what depends on the machine."""
    of_others = ("trial_id", "config_id", "wall_s", "eval_s", "data_s", "cost_as_run_s")
    return {key: value for key, value in asdict(row).items() if key not in of_others}


def test_images_on_disk_and_in_memory_share_a_bank_with_the_curve_of_a_live_teacher(run: Run) -> None:
    streamed, rows = run("float32", keep="disk")
    assert type(streamed.trial.inputs.splits.train) is StreamedSplit
    assert len(rows) >= 3 and streamed.clock.samples(Work.ASKED) == 2 * 128
    live, without = run("live", keep="disk")
    assert live.bank is None and without == rows
    resident, again = run("float32", keep="memory")
    assert again == rows and resident.clock.samples(Work.ASKED) == 0
    assert streamed.bank is not None and resident.bank is not None
    assert streamed.bank.store.path == resident.bank.store.path
    train, views = resident.trial.inputs.splits.train, np.arange(resident.bank.store.shape.num_views)
    assert isinstance(train, ResidentSplit) and train.readable is not None
    (broken,) = train.numbers[~train.readable].tolist()
    assert not resident.bank.store.read(np.full(len(views), broken), views)[1].any()


def test_fixed_crops_of_photographs_are_banked_whatever_part_is_trained_on(run: Run) -> None:
    parameters = {"augment": "resized_crop", "fixed_views": 3}
    banked, rows = run("float32", **parameters)
    live, without = run("live", **parameters)
    assert banked.bank is not None and banked.bank.store.shape.num_views == 3
    assert live.bank is None and len(rows) >= 3 and rows == without
    assert banked.clock.samples(Work.ASKED) == 2 * 128
    warm, again = run("float32", **parameters)
    assert again == rows and warm.clock.samples(Work.ASKED) == 0
    splits = load_splits(find_dataset(warm.trial.config), 0.3, "cpu", 1)
    other = replace(warm.trial.inputs, splits=splits).bank(warm.trial.config, check=True)
    # Most images of another training split have been seen in one or two of their three views.
    assert other is not None and other.store.path == banked.bank.store.path and other.share_filled() > 0.4
