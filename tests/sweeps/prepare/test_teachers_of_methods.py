"""Methods that have a teacher of their own: loaded with the sweep's data, kept, recorded, and priced apart."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.files.record import read_record
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.teacher import key_of
from kdas.training.calibrate import priced_by
from kdas.training.trial import Inputs, Trial, config_id
from sweeps.engine.prices import price_key, priced_variants
from sweeps.engine.slots import Slots
from sweeps.execution.actor import _warm, _warm_inputs, ray_config
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.inputs import inputs_for, keep_inputs_of
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import check_inputs, check_spec, keep_spec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import CALIBRATION, TINY, identify_by

OWN = {"sampler": "full", "teacher": {"model": "resnet8", "epochs": 1, "seed": 5}}


@pytest.fixture
def compared(tmp_path: Path) -> Callable[..., SweepSpec]:
    """Loads the tiny sweep with plain distillation and other methods."""

    def load(**methods: Any) -> SweepSpec:
        content = {**read_yaml(TINY), "baselines": {"plain_kd": "full", **methods}}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return load_spec(tmp_path / "mine.yaml")

    return load


@pytest.fixture
def spec_of_two(compared: Callable[..., SweepSpec]) -> SweepSpec:
    return compared(other=OWN, again={**OWN, "epochs": 1}, past={"sampler": "full", "teacher": "self", "loss": "ps_kd"})


@pytest.fixture
def loaded(spec_of_two: SweepSpec, directory: SweepDirectory) -> Inputs:
    recipe, *others = spec_of_two.methods.recipes
    inputs = inputs_for(recipe, directory, Console(file=io.StringIO()), others)
    keep_inputs_of(recipe, inputs, directory, others)
    keep_spec(spec_of_two, directory)
    return inputs


@pytest.fixture
def empty_cache(loaded: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on no teacher is cached, and none may be trained."""
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("kdas.teacher.obtain._trained", pytest.fail)


def test_each_teacher_is_loaded_once_with_the_same_data(spec_of_two: SweepSpec, loaded: Inputs) -> None:
    recipe, other, past = spec_of_two.methods.recipes
    assert list(loaded.others) == [key_of(other.teacher), key_of(past.teacher)]
    of_other = loaded.of(other)
    assert of_other.splits is loaded.splits and of_other is loaded.of(other)
    assert of_other.teacher.weights_id != loaded.teacher.weights_id
    assert loaded.of(recipe) is loaded


def test_jobs_of_a_method_have_its_teacher_and_ids_of_its_weights(spec_of_two: SweepSpec, loaded: Inputs) -> None:
    plan = plan_of(spec_of_two, identify_by(loaded))
    first = {job.method: job for job in reversed(plan.baselines)}
    assert first["other"].config.teacher.members[0].seed == 5
    assert first["other"].configuration == "teacher resnet8"
    assert first["past"].config.teacher.model == "self" and first["past"].config.ce_weight == 0
    assert len({job.config_id for job in first.values()}) == 4
    # As if the method's teacher were the only one.
    alone = Inputs(loaded.dataset, loaded.splits, loaded.of(first["other"].config).teacher, loaded.device)
    assert config_id(first["other"].config, alone) == first["other"].config_id
    assert Trial(first["other"].config, loaded).inputs.teacher is alone.teacher


def test_prices_are_per_teacher_and_those_of_the_files_come_first(spec_of_two: SweepSpec) -> None:
    variants = priced_variants(spec_of_two.methods)
    assert [priced_by(each)["teacher"] for each in variants] == ["resnet8", "self"]
    assert len({price_key(each) for each in variants}) == 2


def test_a_resumed_sweep_takes_its_copies_of_all_teachers(
    spec_of_two: SweepSpec, loaded: Inputs, directory: SweepDirectory, empty_cache: None
) -> None:
    assert not directory.teacher_file.exists() and len(list(directory.teachers.iterdir())) == 2
    recipe, *others = spec_of_two.methods.recipes
    again = inputs_for(recipe, directory, Console(file=io.StringIO()), others)
    assert again.teacher.weights_id == loaded.teacher.weights_id and not again.teacher.was_trained
    assert [each.weights_id for each in again.others.values()] == [each.weights_id for each in loaded.others.values()]


def test_another_teacher_of_a_method_is_refused(
    spec_of_two: SweepSpec, loaded: Inputs, directory: SweepDirectory
) -> None:
    recipe, *_ = spec_of_two.methods.recipes
    check_inputs(directory, loaded, recipe)
    assert read_record(directory.inputs_file, remedy="")["teacher weights 2"]
    changed = dict.fromkeys(loaded.others, loaded.teacher)
    with pytest.raises(UserError, match=r"the teacher's weights have changed since this sweep began"):
        check_inputs(directory, Inputs(loaded.dataset, loaded.splits, loaded.teacher, loaded.device, changed), recipe)


def test_the_checkpoint_of_a_methods_teacher_may_move(
    compared: Callable[..., SweepSpec], directory: SweepDirectory, inputs: Inputs, tmp_path: Path
) -> None:
    specs = []
    for name in ("here.pth", "there.pth"):
        checkpoint.save(tmp_path / name, {"model": inputs.teacher.model.state_dict()})
        own = {"sampler": "full", "teacher": {"model": "resnet8", "checkpoint": str(tmp_path / name)}}
        specs.append(compared(other=own))
    keep_spec(specs[0], directory)
    check_spec(specs[1], directory)
    with pytest.raises(UserError, match=r"baselines\.other\.teacher\.\w+ was .* when this sweep began"):
        check_spec(compared(other=OWN), directory)


def test_a_worker_loads_the_data_once_for_all_teachers(
    spec_of_two: SweepSpec, loaded: Inputs, directory: SweepDirectory, empty_cache: None
) -> None:
    _warm.cache_clear()
    plan = plan_of(spec_of_two, identify_by(loaded))
    of_workers = {}
    for job in plan.baselines:
        shared = job.config.model_dump(mode="json", include={"dataset", "validation", "student", "device"})
        shared["teacher"] = ray_config(job, directory, CALIBRATION, 1.0, Slots(1, 1, 0.0))["teacher"]
        of_workers[job.method] = _warm_inputs(shared)[0]
        assert Trial(job.config, of_workers[job.method]).config_id == job.config_id
    assert len({id(each.splits) for each in of_workers.values()}) == 1
    assert of_workers["other"] is of_workers["again"] and of_workers["other"] is not of_workers["plain_kd"]
    _warm.cache_clear()


def test_a_method_is_checked_with_its_own_teacher(compared: Callable[..., SweepSpec]) -> None:
    with pytest.raises(
        UserError, match=r"baselines\.past: kdas asks the teacher before|baselines\.past\.sampler: kdas"
    ):
        compared(past={"sampler": "kdas", "teacher": "self", "loss": "ps_kd"})
    with pytest.raises(UserError, match=r"baselines\.both\.loss: rkd needs .* but several teachers give"):
        compared(both={"sampler": "full", "teacher": {"of": [OWN["teacher"], OWN["teacher"]]}, "loss": "rkd"})
    with pytest.raises(UserError, match=r"baselines\.wrong\.teacher\.model: .*resnet9"):
        compared(wrong={"sampler": "full", "teacher": {"model": "resnet9"}})
