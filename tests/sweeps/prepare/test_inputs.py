"""What is prepared before the first trial, and what is told of it meanwhile."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.recipe.config import TrialConfig
from kdas.teacher.bank import TeacherBank
from kdas.training.trial import Inputs, load_inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.inputs import inputs_for, keep_inputs_of, prepare_bank, prices_of
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.status import read_status
from tests.sweeps.conftest import CALIBRATION


@pytest.fixture
def recipe() -> TrialConfig:
    """Enough epochs to show nearly all views."""
    dataset = {"name": "digits", "max_samples": 120}
    teacher = {"model": "resnet8", "epochs": 1}
    return TrialConfig(dataset=dataset, teacher=teacher, student="resnet8", epochs=800)  # type: ignore[arg-type]


@pytest.fixture
def inputs_of_recipe(recipe: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inputs:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))
    return load_inputs(recipe)


def other_teacher(inputs: Inputs) -> None:
    """Put another teacher in the place of the cached one, as training it on another machine does."""
    state = {name: tensor.clone() for name, tensor in inputs.teacher.model.state_dict().items()}
    next(iter(state.values())).add_(1e-6)
    checkpoint.save(inputs.teacher.path, {"model": state})


@pytest.mark.parametrize("cached", ["another teacher", "a damaged file", "nothing"])
def test_a_sweep_resumes_with_its_own_copy_of_the_teacher_whatever_the_cache_holds(
    recipe: TrialConfig, inputs_of_recipe: Inputs, directory: SweepDirectory, spec: SweepSpec, cached: str
) -> None:
    console, before = Console(file=io.StringIO()), inputs_of_recipe.teacher
    keep_inputs_of(recipe, inputs_of_recipe, directory)
    keep_spec(spec, directory)
    if cached == "another teacher":
        other_teacher(inputs_of_recipe)
    elif cached == "a damaged file":
        before.path.write_bytes(before.path.read_bytes()[:1000])
    else:
        before.path.unlink()
    teacher = inputs_for(recipe, directory, console).teacher
    assert teacher.weights_id == before.weights_id and not teacher.was_trained


def test_a_sweep_that_has_lost_its_copy_refuses_another_teacher(
    recipe: TrialConfig, inputs_of_recipe: Inputs, directory: SweepDirectory, spec: SweepSpec
) -> None:
    console, before = Console(file=io.StringIO()), inputs_of_recipe.teacher
    keep_inputs_of(recipe, inputs_of_recipe, directory)
    keep_spec(spec, directory)
    kept = before.path.read_bytes()
    directory.teacher_file.unlink()
    other_teacher(inputs_of_recipe)
    with pytest.raises(UserError, match="the teacher's weights have changed since this sweep began"):
        inputs_for(recipe, directory, console)
    before.path.write_bytes(kept)
    assert inputs_for(recipe, directory, console).teacher.weights_id == before.weights_id
    assert checkpoint.is_intact(directory.teacher_file)


def test_filling_the_bank_is_told_to_who_looks(
    recipe: TrialConfig, inputs_of_recipe: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = TeacherBank._fill, []

    def fill(self: TeacherBank, *args: object, **options: object) -> int:
        seen.extend(line for line in read_status(directory).prepared if "bank" in line)
        return original(self, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TeacherBank, "_fill", fill)
    monkeypatch.setattr("kdas.teacher.bank.answers._IMAGES_AT_ONCE", 40)
    num_views = inputs_of_recipe.splits.views.num_views
    assert num_views is not None
    total = f"{len(inputs_of_recipe.splits.train) * num_views:,} views"
    with directory.locked():
        prepare_bank(recipe, 1, inputs_of_recipe, Path("a.yaml"), directory, Console(file=io.StringIO()))
    # Filled in three parts; nothing is told before the first.
    assert len(seen) == 2 and all(line.endswith(total) for line in seen)
    shares = [int(line.split()[4].rstrip("%")) for line in seen]
    assert 0 < shares[0] < shares[1] < 100
    assert not directory.bank_file.exists()


def test_nothing_is_told_of_filling_that_was_interrupted(
    recipe: TrialConfig, inputs_of_recipe: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(self: TeacherBank, on_views: object) -> None:
        on_views(3)  # type: ignore[operator]
        assert directory.bank_file.exists()
        raise UserError("the bank cannot be written")

    monkeypatch.setattr(TeacherBank, "build", build)
    with pytest.raises(UserError, match="cannot be written"):
        prepare_bank(recipe, 1, inputs_of_recipe, Path("a.yaml"), directory, Console(file=io.StringIO()))
    assert not directory.bank_file.exists()


def test_each_measurement_says_how_many_there_are_and_how_long_they_take(
    load: Callable[..., SweepSpec], inputs_of_recipe: Inputs, directory: SweepDirectory
) -> None:
    others = {f"of_{name}": {"sampler": "full", "loss": name} for name in ("dkd", "at", "sp")}
    spec = load({"start_rate": [0.5, 0.8]}, baselines={"plain_kd": "full", **others})
    known, console = {"at"}, Console(file=io.StringIO(), width=200)

    def measured(config: TrialConfig, *_: object, tell: Callable[[str], None], **__: object) -> Calibration:
        if config.loss["name"] not in known:
            tell("Measuring.")
            tell("Unsteady. Measuring again.")
        return CALIBRATION

    prices_of(plan_of(spec), inputs_of_recipe, directory, console, measured)
    assert console.file.getvalue().splitlines() == [  # type: ignore[attr-defined]
        "Measuring. (1 of 4 sets of prices)",
        "Unsteady. Measuring again.",
        "Measuring. (2 of 4 sets of prices, 0 s left)",
        "Unsteady. Measuring again.",
        "Measuring. (4 of 4 sets of prices, 0 s left)",
        "Unsteady. Measuring again.",
    ]
