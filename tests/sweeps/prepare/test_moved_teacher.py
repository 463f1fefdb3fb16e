"""A sweep keeps its teacher, wherever that came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.recipe.config import TrialConfig
from kdas.training.trial import Inputs, load_inputs
from sweeps.prepare.inputs import inputs_for, keep_inputs_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job


@pytest.fixture
def recipe(inputs: Inputs, tmp_path: Path) -> TrialConfig:
    """With a teacher from a checkpoint."""
    path = tmp_path / "given.pth"
    checkpoint.save(path, {"model": inputs.teacher.model.state_dict()})
    teacher = {"model": "resnet8", "checkpoint": str(path)}
    return TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8")


def test_a_teacher_whose_checkpoint_is_gone_is_the_sweeps_own_copy(
    recipe: TrialConfig, directory: SweepDirectory
) -> None:
    given, console = load_inputs(recipe), Console()
    keep_inputs_of(recipe, given, directory)
    job = Job("plain_kd", "search", recipe, "aaaaaaaa")
    directory.trial(job.trial_id).begin(job)
    assert recipe.teacher.checkpoint
    Path(recipe.teacher.checkpoint).unlink()
    found = inputs_for(recipe, directory, console).teacher
    assert found.weights_id == given.teacher.weights_id
    kept = found.model.state_dict()
    assert all(torch.equal(each, kept[name]) for name, each in given.teacher.model.state_dict().items())
    directory.teacher_file.unlink()
    with pytest.raises(UserError, match=r"^teacher\.checkpoint: .*given\.pth: no such checkpoint"):
        inputs_for(recipe, directory, console)


def test_a_sweep_of_before_gets_its_copy_at_the_next_start(recipe: TrialConfig, directory: SweepDirectory) -> None:
    keep_inputs_of(recipe, load_inputs(recipe), directory)
    directory.teacher_file.unlink()
    job = Job("plain_kd", "search", recipe, "aaaaaaaa")
    directory.trial(job.trial_id).begin(job)
    inputs_for(recipe, directory, Console())
    assert checkpoint.is_intact(directory.teacher_file)
