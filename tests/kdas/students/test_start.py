"""A student that starts from kept weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kdas
from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.students.start import start_id
from kdas.students.student import Student
from kdas.training.trainer import Surroundings, Training
from tests.kdas.conftest import TrialOf

FILE = "dataset: digits\nteacher: {model: resnet8}\nstudent: "


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory,
    finished: Callable[..., tuple[Training, list[Any]]],
    calibration: Calibration,
) -> Path:
    path = tmp_path_factory.mktemp("kept") / "student"
    training, _ = finished(Surroundings(calibration, keeps_student=True), epochs=1)
    training.write_student(path)
    return path


@pytest.fixture(scope="module")
def student(folder: Path) -> Student:
    return kdas.load_student(folder)


def test_it_begins_with_these_weights(folder: Path, student: Student, trial_of: TrialOf) -> None:
    trial = trial_of(student={"model": "resnet8", "checkpoint": str(folder)})
    for name, tensor in trial.distiller().student.state_dict().items():
        assert torch.equal(tensor, student.model.state_dict()[name])


def test_its_name_follows_from_the_weights_and_not_from_their_path(
    folder: Path, trial_of: TrialOf, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    ids = [
        trial_of(student=given).config_id
        for given in (
            "resnet8",
            {"model": "resnet8"},
            {"model": "resnet8", "checkpoint": str(folder)},
            {"model": "resnet8", "checkpoint": str(tmp_path / "copy" / "model.safetensors")},
            {"model": "resnet8", "checkpoint": str(tmp_path / "copy" / "last.safetensors")},
        )
    ]
    same_weights = (folder / "model.safetensors").read_bytes() == (folder / "last.safetensors").read_bytes()
    assert ids[0] == ids[1] != ids[2] == ids[3] and (ids[4] == ids[3]) is same_weights


def test_a_curve_from_a_trained_start_begins_where_that_one_ended(
    folder: Path, finished: Callable[..., tuple[Training, list[Any]]]
) -> None:
    _, cold = finished(epochs=1)
    _, warm = finished(epochs=1, student={"model": "resnet8", "checkpoint": str(folder)})
    assert warm[0].train_loss < cold[0].train_loss


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{model: resnet8, weights: x}", r"student: unknown key 'weights'\. Write student: \{model"),
        ("{checkpoint: x}", r"student: expected a model\."),
        ("{model: resnt8, checkpoint: x}", r"student: .*resnet8"),
        ("[resnet8]", r"student: "),
    ],
)
def test_a_mistake_is_one_line(given: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(FILE + given, encoding="utf-8")
    with pytest.raises(UserError, match=said) as refused:
        load_trial_config(tmp_path / "trial.yaml")
    assert "\n" not in str(refused.value)


def test_its_path_is_relative_to_the_file_and_may_be_a_setting(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "kept")
    (tmp_path / "trial.yaml").write_text(f"{FILE}{{model: resnet8, checkpoint: kept}}\n", encoding="utf-8")
    config = load_trial_config(tmp_path / "trial.yaml")
    assert (config.student, config.student_checkpoint) == ("resnet8", str(tmp_path / "kept"))
    (tmp_path / "other.yaml").write_text(f"{FILE}resnet8\nstudent_checkpoint: kept\n", encoding="utf-8")
    assert load_trial_config(tmp_path / "other.yaml") == config
    (tmp_path / "plain.yaml").write_text(f"{FILE}resnet8\n", encoding="utf-8")
    assert load_trial_config(tmp_path / "plain.yaml", [f"student.checkpoint={tmp_path / 'kept'}"]) == config
    assert start_id(config, 10) != "" == start_id(load_trial_config(tmp_path / "plain.yaml"), 10)


@pytest.mark.parametrize(
    ("model", "checkpoint", "said"),
    [
        ("resnet14", "{kept}", r"^student\.checkpoint: .*expected a checkpoint of resnet14, got one of resnet8"),
        ("resnet8", "{kept}/nothing.pth", r"^student\.checkpoint: .*no such checkpoint"),
    ],
)
def test_weights_that_do_not_fit_are_refused(model: str, checkpoint: str, said: str, folder: Path) -> None:
    config = TrialConfig.model_validate(
        {
            "dataset": "digits",
            "teacher": {"model": "resnet8"},
            "student": {"model": model, "checkpoint": checkpoint.format(kept=folder)},
        }
    )
    with pytest.raises(UserError, match=said):
        start_id(config, 10)
