"""Photographs with unlimited views: they have a bank only if the user asks for a few fixed views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdas.clock import Calibration, Work
from kdas.data import Draw, ImageSplits
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, find_dataset, load_inputs

ConfigOf = Callable[..., TrialConfig]
WriteFolders = Callable[..., Path]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, write_folders: WriteFolders) -> Path:
    return write_folders(tmp_path_factory.mktemp("photographs"), {"train": 12, "test": 4}, width=40, height=36)


def photographs(folder: Path, **more: Any) -> dict[str, Any]:
    return {"name": "image_folder", "path": str(folder), "size": 16, "augment": "resized_crop", **more}


@pytest.fixture(scope="module")
def fixed(folder: Path, config_of: ConfigOf) -> Trial:
    config = config_of(dataset=photographs(folder, fixed_views=3), data_workers=1, epochs=2, batch_size=8)
    return Trial(config, load_inputs(config))


def views_of_epoch(splits: ImageSplits, epoch: int) -> torch.Tensor:
    whole = [torch.arange(len(splits.train))]
    ((_, images),) = splits.training_batches(whole, Draw(seed=1, epoch=epoch))
    return images


def test_an_image_shows_no_more_views_than_were_asked_for(fixed: Trial) -> None:
    splits = fixed.inputs.splits
    epochs = torch.stack([views_of_epoch(splits, epoch) for epoch in range(1, 16)])
    different = [len(epochs[:, image].flatten(1).unique(dim=0)) for image in range(len(splits.train))]
    assert max(different) == 3 and min(different) >= 2


def test_a_view_is_known_by_its_number_whatever_the_epoch(fixed: Trial) -> None:
    splits = fixed.inputs.splits
    first, second = (splits.view_ids(Draw(1, epoch)) for epoch in (1, 2))
    assert first is not None and second is not None
    same = first == second
    assert 0 < same.sum() < len(same)
    one, other = views_of_epoch(splits, 1), views_of_epoch(splits, 2)
    assert torch.equal(one[same], other[same])
    assert (one[~same] != other[~same]).flatten(1).any(dim=1).all()


def test_teacher_is_asked_once_about_each_fixed_view(fixed: Trial, calibration: Calibration) -> None:
    first = Training(fixed, Surroundings(calibration))
    rows = list(first.rows())
    again = Training(fixed, Surroundings(calibration))
    assert [row.train_loss for row in again.rows()] == [row.train_loss for row in rows]
    assert first.clock.samples(Work.ASKED) > 0 == again.clock.samples(Work.ASKED)
    assert first.clock.samples(Work.TEACHER) == again.clock.samples(Work.TEACHER) > 0


def test_without_fixed_views_the_teacher_runs_live(folder: Path, config_of: ConfigOf) -> None:
    config = config_of(dataset=photographs(folder), data_workers=1)
    inputs = load_inputs(config)
    assert inputs.bank(config) is None
    asked = config_of(dataset=photographs(folder), data_workers=1, bank="float16")
    with pytest.raises(
        UserError, match=r"^bank: float16 is not possible: .*\. Set dataset\.fixed_views, or bank: live"
    ):
        load_inputs(asked)


def test_fixed_views_make_another_trial_and_are_for_resized_crops_alone(folder: Path, config_of: ConfigOf) -> None:
    def identity(**more: Any) -> list[Any]:
        return find_dataset(config_of(dataset=photographs(folder, **more))).identity

    assert identity(fixed_views=3) != identity() != identity(fixed_views=4)
    with pytest.raises(UserError, match=r"dataset\.fixed_views: only applies to resized_crop"):
        find_dataset(config_of(dataset=photographs(folder, augment="crop_flip", fixed_views=3)))
