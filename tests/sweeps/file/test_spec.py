from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from kdas.training.trial import Inputs
from sweeps.file.layers import FILES, directory_of, shipped, spec_path
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import check_spec, keep_spec, spec_text
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import TINY, identify_by


def changed(tmp_path: Path, **changes: Any) -> Path:
    """Write the tiny sweep with some keys replaced; a key given as None is left out."""
    content = {**read_yaml(TINY), **changes}
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"evaluation": 3}, "evaluation: unknown key. Did you mean evaluations?"),
        (
            {"search": {"START_RATE": {"low": 0.3, "high": 1.4}}},
            "search.start_rate: expected a value in (0, 1], got 1.4",
        ),
        ({"search": {"THRESHOLD": [0.5]}}, "search.threshold: expected a value in (0, 0.5), got 0.5"),
        (
            {"search": {"THRESHOLD": {"low": 0.3, "high": 0.1}}},
            "search.threshold: expected low below high, got 0.3 and 0.1",
        ),
        (
            {"search": {"PENALTY_LAMBDA": {"low": 0, "high": 9, "log": True}}},
            "a logarithmic range needs a low above 0, got 0",
        ),
        ({"search": {"STRAT_RATE": [0.5]}}, "search.strat_rate: is not a parameter of kdas. Did you mean start_rate?"),
        (
            {"search": {"SAMPLING_PERIOD": {"low": 1, "high": 4}}},
            "search.sampling_period: expected a list of choices, got a range",
        ),
        ({"search": {"SAMPLING_PERIOD": [0]}}, "search.sampling_period"),
        ({"search": {"START_RATE": {"low": 0.3}}}, "search.start_rate: expected low and high, or choices"),
        ({"search": {}}, "search: the space is empty"),
        ({"search": None}, "search: missing"),
        (
            {"known_points": [{"START_RATE": 0.6}]},
            "known_points.0: expected a value for every key of search, and no other. Add or remove sampling_period",
        ),
        (
            {"known_points": [{"START_RATE": 0.2, "SAMPLING_PERIOD": 1}]},
            "known_points.0.start_rate: expected 0.3 to 0.9",
        ),
        (
            {"target": 1.2},
            "target.accuracy: expected a value in (0, 1], got 1.2. Target accuracy, a fraction: 0.95, not 95.",
        ),
        (
            {"target": {"fraction_of_baseline": 0}},
            "target.fraction_of_baseline: expected a value in (0, 1], got 0.",
        ),
        ({"seeds": [1, 1]}, "seeds: contains a duplicate"),
        ({"seeds": 0}, "seeds"),
        ({"baselines": {"rs2": "random"}}, "baselines: none is the sampler full alone"),
        ({"baselines": {"plain_kd": "full", "rs2": "randon"}}, "baselines.rs2.name: no sampler is called 'randon'."),
        ({"baselines": {"plain_kd": "full", "kdas_search": "kdas"}}, "are reserved"),
        (
            {"baselines": {"plain_kd": "full", "k": {"name": "kdas", "end_rate": 0}}},
            "k.end_rate: expected a value in (0, 1], got 0.",
        ),
        ({"student": "vg8"}, "student: no model is called 'vg8'. Did you mean vgg8?"),
        ({"student": None}, "student: missing"),
        ({"dataset": "digit"}, "dataset.name: no dataset is called 'digit'. Did you mean digits?"),
        ({"budget": {"configurations": 0}}, "budget.configurations: expected a value in [1, 1000000], got 0"),
        ({"epochs": "many"}, "epochs: expected a whole number, got 'many'"),
    ],
)
def test_a_mistake_is_one_line_that_names_file_key_and_value(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = changed(tmp_path, **changes)
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        load_spec(path)
    line = str(caught.value)
    assert "changed.yaml: " in line
    assert "\n" not in line


@pytest.mark.parametrize("name", shipped())
def test_shipped_sweeps_are_valid(name: str) -> None:
    spec = load_spec(spec_path(name))
    samplers = {method.sampler["name"] for method in spec.baselines.values()}
    assert samplers == {"full", "random", "kdas"}


def test_the_papers_sweep_has_the_papers_pair() -> None:
    spec = load_spec(FILES / "cifar_kd.yaml")
    assert (spec.teacher.model, spec.student) == ("vgg13", "vgg8")


def test_the_digits_sweep_searches_enough_on_three_seeds() -> None:
    spec = load_spec(spec_path("digits_kd"))
    assert spec.budget.configurations >= 8
    assert spec.seeds == [1, 2, 3]


def test_data_replaces_the_path_of_the_dataset() -> None:
    dataset = load_spec(FILES / "cifar10_kd.yaml", data="/some/where").dataset
    assert (dataset["name"], dataset["path"]) == ("cifar10", "/some/where")


def test_every_default_is_written_out_so_that_equal_settings_are_equal(spec: SweepSpec, tmp_path: Path) -> None:
    baselines = {"plain_kd": {"name": "full"}, "rs2": "random", "kdas_paper": {"name": "kdas", "START_RATE": 0.6}}
    assert load_spec(changed(tmp_path, baselines=baselines)).baselines == spec.baselines


def test_preset_and_official_block_reach_baselines_and_search(tmp_path: Path) -> None:
    spec = load_spec(changed(tmp_path, validation=None, preset="official", KDAS={"THRESHOLD": 0.1}))
    assert spec.validation == 0 and spec.loss["direction"] == "reverse"  # type: ignore[call-overload]
    for sampler in (spec.sampler, spec.baselines["kdas_paper"].sampler):
        assert sampler["score_mode"] == "train" and sampler["threshold"] == 0.1
    assert spec.baselines["rs2"].sampler == {"name": "random", "start_rate": 0.6, "end_rate": 0.4}


def test_another_sampler_and_the_weight_of_distillation_can_be_searched(tmp_path: Path, inputs: Inputs) -> None:
    search = {"fraction": {"low": 0.2, "high": 0.8}, "KD_WEIGHT": {"low": 1, "high": 20, "log": True}}
    path = changed(tmp_path, sampler={"name": "static_random"}, search=search, known_points=None)
    spec = load_spec(path)
    ranges = {each.name: each.values.distribution(each.kind).low for each in spec.space.parameters}  # type: ignore[attr-defined]
    assert ranges == {"fraction": 0.2, "kd_weight": 1}
    job = plan_of(spec, identify_by(inputs)).searched({"fraction": 0.3, "kd_weight": 4.0})[0]
    assert job.config.sampler == {"name": "static_random", "fraction": 0.3} and job.config.kd_weight == 4
    assert job.configuration == "fraction 0.3 · kd_weight 4"
    papers = {"start_rate": 0.6, "sampling_period": [1, 3]}
    searched = plan_of(load_spec(TINY), identify_by(inputs)).searched(papers)[0]
    assert searched.configuration == "start_rate 0.6 · sampling_period 1, 3", "also what equals a default"


def test_search_knows_only_parameters_of_its_sampler(tmp_path: Path) -> None:
    search = {"start_rate": {"low": 0.2, "high": 0.8}}
    path = changed(tmp_path, sampler="static_random", search=search, known_points=None)
    with pytest.raises(UserError, match=r"search\.start_rate: is not a parameter of static_random\. "):
        load_spec(path)
    search = {"kd_weight": {"low": -1, "high": 8}}
    with pytest.raises(UserError, match=r"search\.kd_weight: expected a value in \[0, 1000000\], got -1\.0"):
        load_spec(changed(tmp_path, search=search, known_points=None))


def test_proposal_that_equals_a_baseline_carries_its_name_only_if_all_is_equal(tmp_path: Path, inputs: Inputs) -> None:
    search = {"start_rate": [0.6], "kd_weight": [9.0, 4.0]}
    spec = load_spec(changed(tmp_path, search=search, known_points=None))
    same = plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.6, "kd_weight": 9.0})
    other = plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.6, "kd_weight": 4.0})
    assert {job.method for job in same} == {"kdas_paper"} and {job.method for job in other} == {"kdas_search"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [-1]}, "seeds.0: expected at least 0, got -1"),
        ({"target": True}, "target: expected a number or a mapping, got True"),
        (
            {"search": {"PENALTY_WARMUP": [None, 3]}, "known_points": None},
            "search.penalty_warmup: expected a whole number, got None",
        ),
        (
            {"search": {"PENALTY_WARMUP": [[1], 3]}, "known_points": None},
            "search.penalty_warmup: expected a whole number, got [1]",
        ),
        (
            {"search": {"PENALTY_WARMUP": ["a"]}, "known_points": None},
            "search.penalty_warmup: expected a whole number, got 'a'",
        ),
        (
            {"search": {"PENALTY_WARMUP": {"low": 0, "high": 10}}, "known_points": [{"penalty_warmup": 2.5}]},
            "known_points.0.penalty_warmup: expected a whole number, got 2.5",
        ),
        (
            {"search": {"START_RATE": [0.5], "start_rate": [0.6]}, "known_points": None},
            "search.start_rate: is given twice, in upper and lower case",
        ),
        (
            {"sampler": {"name": "kdas", "warmup_epochs": 99}},
            "sampler.warmup_epochs: expected fewer than the 3 epochs, got 99",
        ),
        (
            {"baselines": {"plain_kd": "full", "late": {"name": "kdas", "WARMUP_EPOCHS": 3}}},
            "late.warmup_epochs: expected fewer than the 3 epochs, got 3",
        ),
        (
            {"optimizer": {"warmup_epochs": 3}},
            "optimizer.warmup_epochs: expected fewer than the 3 epochs, got 3",
        ),
        ({"accumulate": 33}, "accumulate: splitting a batch of 64 into 33 leaves parts of fewer than two samples"),
    ],
    ids=str,
)
def test_mistakes_that_would_show_late_are_refused_at_once(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        load_spec(changed(tmp_path, **changes))


@pytest.mark.parametrize("dataset", ["cifar100", {"name": "cifar100"}, {"CIFAR100": {}}, {"cifar100": {"PATH": "/x"}}])
def test_data_replaces_the_path_however_the_dataset_is_written(tmp_path: Path, dataset: Any) -> None:
    spec = load_spec(changed(tmp_path, dataset=dataset), data="/some/where")
    assert (spec.dataset["name"], spec.dataset["path"]) == ("cifar100", "/some/where")


@pytest.mark.parametrize("dataset", [["digits"], 5])
def test_data_for_an_invalid_dataset_is_refused_in_one_line(tmp_path: Path, dataset: Any) -> None:
    with pytest.raises(UserError, match=r"dataset\.name: (expected the name of a dataset, got .*|missing)\. Known: "):
        load_spec(changed(tmp_path, dataset=dataset), data="/some/where")


def test_number_of_trials_decides_how_many_configurations_are_searched_if_given(tmp_path: Path) -> None:
    # Three baselines on two seeds take six of the eleven trials.
    spec = load_spec(changed(tmp_path, budget={"configurations": 9, "trials": 11}))
    assert spec.num_configurations == 2 and plan_of(spec).num_trials == 10
    assert load_spec(changed(tmp_path, budget={"configurations": 9})).num_configurations == 9


@pytest.mark.parametrize(
    ("given", "scheduler"),
    [
        ({}, "racing"),
        ({"objective": "accuracy"}, "none"),
        ({"objective": {"name": "accuracy_at_cost", "share_of_budget": 0.5}}, "none"),
        ({"objective": "pareto", "scheduler": "asha"}, "asha"),
        ({"scheduler": {"name": "median", "grace": 0.3}}, "median"),
    ],
    ids=str,
)
def test_racing_is_the_scheduler_only_where_times_count(tmp_path: Path, given: dict[str, Any], scheduler: str) -> None:
    assert load_spec(changed(tmp_path, **{"scheduler": None, **given})).scheduler["name"] == scheduler


@pytest.mark.parametrize("cells", [None, {"loss": ["kd", "dkd"]}], ids=["alone", "cells"])
def test_a_sweep_keeps_the_scheduler_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: dict[str, Any] | None
) -> None:
    """Which an earlier version may have chosen for it."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    path = changed(tmp_path, scheduler=None, **({"cells": cells} if cells else {}))
    directory = SweepDirectory(directory_of(path))
    directory.path.mkdir(parents=True)
    keep_spec(load_spec(path, settings=["scheduler=capping"]), directory)
    again = load_spec(path)
    assert again.scheduler["name"] == "capping"
    assert {cell.scheduler["name"] for cell in again.cells.values()} <= {"capping"}
    check_spec(again, directory)
    if cells is None:
        with pytest.raises(UserError, match=r"scheduler\S* was .*capping.* is .*median"):
            check_spec(load_spec(path, settings=["scheduler=median"]), directory)
    directory.spec_file.unlink()
    assert load_spec(path).scheduler["name"] == "racing"


def test_fresh_seeds_are_counted_from_1001_and_confirmation_can_be_left_out(tmp_path: Path) -> None:
    confirm = load_spec(changed(tmp_path, confirm={"seeds": 3})).confirm
    assert confirm is not None and (confirm.top, confirm.seeds) == (3, [1001, 1002, 1003])
    usual = load_spec(changed(tmp_path, confirm=None)).confirm
    assert usual is not None and usual.seeds == list(range(1001, 1011))
    assert load_spec(changed(tmp_path, confirm=False)).confirm is None


def test_confirmation_until_decided_is_written_out_so_that_it_reads_the_same_again(tmp_path: Path) -> None:
    spec = load_spec(changed(tmp_path, confirm={"until": "decided", "most": 12}))
    assert spec.confirm is not None and spec.confirm.fresh_seeds == list(range(1001, 1013))
    written = spec.model_dump(mode="json")
    assert written["confirm"] == {"top": 3, "until": "decided", "least": 5, "most": 12}
    assert SweepSpec.model_validate(written).confirm == spec.confirm
    assert load_spec(changed(tmp_path, confirm={"seeds": 3})).model_dump(mode="json")["confirm"] == {
        "top": 3,
        "seeds": [1001, 1002, 1003],
    }


def test_short_forms_stand_for_blocks(tmp_path: Path) -> None:
    spec = load_spec(changed(tmp_path, algorithm="random", objective="tta", budget={"stop_when": "first_reached"}))
    assert spec.algorithm.name == "random" and spec.objective.name == "tta"
    assert spec.budget.stop_when is not None and spec.budget.stop_when.first_reached


@pytest.mark.parametrize("name", shipped())
def test_recorded_sweep_is_the_same_sweep(name: str) -> None:
    spec = load_spec(spec_path(name))
    assert SweepSpec.model_validate(yaml.safe_load(spec_text(spec))) == spec


def test_numbers_and_names_are_those_that_the_file_shows(tmp_path: Path) -> None:
    """YAML 1.1 would read 8 seeds, 160 epochs, and cells called True and False."""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"extends: {TINY}\nseeds: 010\nepochs: 0240\ncells: {{on: {{batch_size: 32}}, off: {{batch_size: 64}}}}\n",
        encoding="utf-8",
    )
    spec = load_spec(path)
    assert (len(spec.seeds), spec.epochs, list(spec.cells)) == (10, 240, ["on", "off"])
