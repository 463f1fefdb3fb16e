"""A sweep keeps the weights that it was given: its teacher, and those that its students start from."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdas import models
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.files.record import read_record
from kdas.recipe.config import TrialConfig
from kdas.students import start
from kdas.training.trial import Inputs, load_inputs
from sweeps.engine.slots import Slots
from sweeps.execution.actor import ray_config
from sweeps.file.spec import SweepSpec
from sweeps.prepare.inputs import inputs_for, keep_inputs_of
from sweeps.prepare.own_copies import with_own_copies
from sweeps.prepare.preview import look_ahead
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.reproduce import reproduce
from sweeps.run import run_sweep
from tests.sweeps.conftest import CALIBRATION, TINY
from tests.sweeps.record.test_damage import train_here


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
    found = inputs_for(with_own_copies(recipe, directory), directory, console).teacher
    assert found.weights_id == given.teacher.weights_id
    kept = found.model.state_dict()
    assert all(torch.equal(each, kept[name]) for name, each in given.teacher.model.state_dict().items())
    directory.teacher_file.unlink()
    with pytest.raises(UserError, match=r"^teacher\.checkpoint: .*given\.pth: no such checkpoint"):
        inputs_for(with_own_copies(recipe, directory), directory, console)


def test_a_sweep_of_before_gets_its_copy_at_the_next_start(recipe: TrialConfig, directory: SweepDirectory) -> None:
    keep_inputs_of(recipe, load_inputs(recipe), directory)
    directory.teacher_file.unlink()
    job = Job("plain_kd", "search", recipe, "aaaaaaaa")
    directory.trial(job.trial_id).begin(job)
    inputs_for(recipe, directory, Console())
    assert checkpoint.is_intact(directory.teacher_file)


def test_workers_read_the_sweeps_own_copies(recipe: TrialConfig, directory: SweepDirectory) -> None:
    given = str(recipe.teacher.checkpoint)
    sampler = {"name": "reference_gap", "reference": given}
    recipe = recipe.model_copy(update={"student_checkpoint": given, "sampler": sampler})
    keep_inputs_of(recipe, load_inputs(recipe), directory, references=[given])
    told = ray_config(Job("plain_kd", "search", recipe, "aaaaaaaa"), directory, CALIBRATION, 1.0, Slots(1, 1, 0.0))
    assert told["teacher"]["checkpoint"] == str(directory.teacher_file)
    assert told["config"]["student_checkpoint"] == str(directory.start_file)
    assert told["config"]["sampler"]["reference"] == str(directory.reference_file_of(given))


@pytest.fixture
def given(load: Callable[..., SweepSpec], inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepSpec:
    """A sweep with a teacher and starting students from checkpoints."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.setattr("sweeps.run._train", train_here)
    teacher, begins = tmp_path / "teacher.pth", tmp_path / "start.pth"
    checkpoint.save(teacher, {"model": inputs.teacher.model.state_dict()})
    checkpoint.save(begins, {"model": models.create("resnet8", 10).state_dict()})
    return load(
        {"START_RATE": {"low": 0.3, "high": 0.9}},
        teacher={"model": "resnet8", "checkpoint": str(teacher)},
        student={"model": "resnet8", "checkpoint": str(begins)},
        baselines={"plain_kd": "full"},
        budget={"configurations": 1},
        seeds=1,
        epochs=1,
        evaluations=2,
    )


def test_a_sweep_resumes_after_its_given_weights_were_moved(given: SweepSpec, tmp_path: Path) -> None:
    printed = io.StringIO()
    directory, console = SweepDirectory(tmp_path / "runs" / "mine"), Console(file=printed)
    assert run_sweep(given, TINY, directory, console)
    assert f"Students start from the weights in {tmp_path / 'start.pth'}" in printed.getvalue()
    facts = read_record(directory.environment_file, remedy="")
    assert facts["student_start"] == start.start_id(given.methods.recipe, 10)
    before = {folder.path.name for folder in directory.trials()}
    for name in ("teacher.pth", "start.pth"):
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    start._kept.cache_clear()  # as in another process
    more = SweepSpec.model_validate({**given.model_dump(), "seeds": [1, 2]})
    assert look_ahead(more, TINY, directory, Slots(1, 1, 0.0), console)
    assert run_sweep(more, TINY, directory, console)
    after = {folder.path.name for folder in directory.trials()}
    # The same configurations, so no name changed.
    assert after == before | {name.replace("-s1", "-s2") for name in before}
    assert reproduce(directory, min(before), None, console)
    directory.start_file.unlink()
    start._kept.cache_clear()
    with pytest.raises(UserError, match=r"student\.checkpoint: .*start\.pth: no such checkpoint"):
        run_sweep(more, TINY, directory, console)


def test_a_sweep_resumes_after_the_weights_of_a_methods_teacher_were_moved(
    given: SweepSpec, tmp_path: Path, inputs: Inputs
) -> None:
    other = tmp_path / "other.pth"
    checkpoint.save(other, {"model": models.create("resnet14", 10).state_dict()})
    own = {"sampler": "full", "teacher": {"model": "resnet14", "checkpoint": str(other)}}
    spec = SweepSpec.model_validate({**given.model_dump(mode="json"), "baselines": {"plain_kd": "full", "deeper": own}})
    directory, console = SweepDirectory(tmp_path / "runs" / "mine"), Console(quiet=True)
    directory.path.mkdir(parents=True)
    directory.teacher_file.touch()  # of a start with one teacher that was given up
    assert run_sweep(spec, TINY, directory, console)
    before = {folder.path.name: folder.description for folder in directory.trials()}
    other.rename(tmp_path / "moved.pth")
    more = SweepSpec.model_validate({**spec.model_dump(mode="json"), "seeds": [1, 2]})
    assert look_ahead(more, TINY, directory, Slots(1, 1, 0.0), console)
    assert run_sweep(more, TINY, directory, console)
    after = {folder.path.name for folder in directory.trials()}
    assert after == before.keys() | {name.replace("-s1", "-s2") for name in before}
    of_other = next(name for name, about in before.items() if about["method"] == "deeper")
    assert reproduce(directory, of_other, None, console)
    # The file may also name the new place; the record of the trial names the old one.
    own["teacher"] = {"model": "resnet14", "checkpoint": str(tmp_path / "moved.pth")}
    again = SweepSpec.model_validate(
        {**more.model_dump(mode="json"), "seeds": [1, 2, 3], "baselines": {"plain_kd": "full", "deeper": own}}
    )
    assert run_sweep(again, TINY, directory, console)
    assert reproduce(directory, of_other, None, console)


def test_given_weights_that_never_existed_are_refused_whatever_an_abandoned_start_left(
    given: SweepSpec, tmp_path: Path, inputs: Inputs
) -> None:
    directory, console = SweepDirectory(tmp_path / "runs" / "mine"), Console(file=io.StringIO())
    directory.path.mkdir(parents=True)
    keep_inputs_of(given.methods.recipe, load_inputs(given.methods.recipe), directory)
    (tmp_path / "start.pth").unlink()
    start._kept.cache_clear()
    with pytest.raises(UserError, match=r"student\.checkpoint: .*start\.pth: no such checkpoint"):
        run_sweep(given, TINY, directory, console)


def test_a_sweep_resumes_after_the_references_of_its_samplers_were_moved(given: SweepSpec, tmp_path: Path) -> None:
    for number in range(3):
        network = models.create("resnet8", 10)
        checkpoint.save(tmp_path / f"kept{number}.pth", {"model": network.state_dict()})
    old = [{"name": "reference_gap", "reference": str(tmp_path / f"kept{number}.pth")} for number in range(3)]
    new = [{"name": "reference_gap", "reference": str(tmp_path / "moved" / f"kept{number}.pth")} for number in range(3)]

    def spec(samplers: list[dict[str, str]], **changed: object) -> SweepSpec:
        alone, of_method, searched = samplers
        search = {"sampler": [searched, "random"]}
        baselines = {"plain_kd": "full", "gap": alone, "short": {"sampler": of_method, "kd_weight": 2}}
        content = {**given.model_dump(mode="json"), "sampler": searched, "search": search, "baselines": baselines}
        return SweepSpec.model_validate({**content, "known_points": [{"sampler": searched}], **changed})

    directory, console = SweepDirectory(tmp_path / "runs" / "mine"), Console(quiet=True)
    assert run_sweep(spec(old), TINY, directory, console)
    before = {folder.path.name: folder.description["method"] for folder in directory.trials()}
    assert sorted(before.values()) == ["gap", "plain_kd", "reference_gap_search", "short"]
    (tmp_path / "moved").mkdir()
    for number in range(3):
        (tmp_path / f"kept{number}.pth").rename(tmp_path / "moved" / f"kept{number}.pth")
    for seeds, samplers in (([1, 2], old), ([1, 2, 3], new)):  # gone, then named at their new place
        start._kept.cache_clear()
        more = spec(samplers, seeds=seeds)
        assert look_ahead(more, TINY, directory, Slots(1, 1, 0.0), console)
        assert run_sweep(more, TINY, directory, console)
    after = {folder.path.name for folder in directory.trials()}
    assert after == {name.replace("-s1", f"-s{seed}") for name in before for seed in (1, 2, 3)}
    for name, method in before.items():
        assert reproduce(directory, name, None, console), method
    checkpoint.save(tmp_path / "moved" / "kept1.pth", {"model": models.create("resnet8", 10).state_dict()})
    start._kept.cache_clear()
    with pytest.raises(UserError, match=r"the weights of a sampler's reference have changed since this sweep began"):
        run_sweep(spec(new, seeds=[1, 2, 3]), TINY, directory, console)
