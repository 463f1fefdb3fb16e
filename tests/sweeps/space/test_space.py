"""What is searched: conditions, steps, keys of other blocks, and the points that come first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.parts.reading import read_yaml
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec, load_spec
from sweeps.prepare.resolved import plan_of
from tests.sweeps.conftest import TINY, identify_by, search_of

Load = Callable[..., SweepSpec]
RATE = {"low": 0.3, "high": 0.9}
BY_SAMPLER = {
    "kd_weight": RATE,
    "start_rate": RATE,
    "SAMPLING_PERIOD": [[1, 3, 5, 10], 1, 4],
    "fraction": [0.25, 0.5],
    "sampler": ["kdas", "random", "static_random"],
}


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def write_and_load(search: dict[str, Any], **content: Any) -> SweepSpec:
        path = tmp_path / "mine.yaml"
        whole = {**read_yaml(TINY), "known_points": [], "search": search, **content}
        path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        return load_spec(path)

    return write_and_load


def proposals(spec: SweepSpec, folder: Path, count: int = 30) -> list[dict[str, Any]]:
    study = search_of(folder / "study", spec)
    points = []
    for number in range(count):
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, [float(number)])
        points.append(asked.point)
    return points


def test_parameter_of_some_samplers_is_proposed_only_beside_them(load: Load, tmp_path: Path) -> None:
    points = proposals(load(BY_SAMPLER), tmp_path)
    assert {point["sampler"]["name"] for point in points} == {"kdas", "random", "static_random"}
    own = {"kdas": {"start_rate", "sampling_period"}, "random": {"start_rate"}, "static_random": {"fraction"}}
    for point in points:
        assert set(point) == {"sampler", "kd_weight", *own[point["sampler"]["name"]]}


def test_trial_has_the_sampler_that_was_proposed_and_is_called_by_it(
    load: Load, inputs: Inputs, tmp_path: Path
) -> None:
    spec = load(BY_SAMPLER, sampler={"name": "kdas", "threshold": 0.1})
    for point in proposals(spec, tmp_path, 12):
        job = plan_of(spec, identify_by(inputs)).searched(point)[0]
        name = point["sampler"]["name"]
        assert job.config.sampler["name"] == name and job.config.kd_weight == point["kd_weight"]
        assert job.method == f"{name}_search"
        if name == "kdas":  # the file's own parameters of that sampler stand
            assert job.config.sampler["threshold"] == 0.1
        for parameter in set(point) - {"sampler", "kd_weight"}:
            assert job.config.sampler[parameter] in (point[parameter], [point[parameter]])


def test_condition_of_a_condition_is_followed(load: Load, tmp_path: Path) -> None:
    search = {
        "penalty_lambda": {"choices": [0, 10], "when": {"sampling_period": [1, 4]}},
        "threshold": {**RATE, "low": 0.1, "high": 0.3, "when": {"PENALTY_LAMBDA": 10}},
        "sampling_period": [1, 4, 10],
    }
    spec = load(search)
    points = proposals(spec, tmp_path, 40)
    for point in points:
        assert ("penalty_lambda" in point) == (point["sampling_period"] in (1, 4))
        assert ("threshold" in point) == (point.get("penalty_lambda") == 10)
    assert {len(point) for point in points} == {1, 2, 3}
    assert [parameter.name for parameter in spec.space.parameters] == ["sampling_period", "penalty_lambda", "threshold"]


def test_part_that_waits_for_a_parameter_of_another_part_comes_after_that_part(load: Load) -> None:
    search = {
        "sampler": {"choices": ["kdas", "random"], "when": {"loss.beta": 2}},
        "loss": ["kd", "dkd"],
        "loss.beta": [2, 6],
    }
    space = load(search).space
    assert [parameter.name for parameter in space.parameters] == ["loss", "loss.beta", "sampler"]
    assert [choice["name"] for choice in space["loss.beta"].needs["loss"]] == ["dkd"]


def test_list_that_is_a_choice_is_one_value_of_a_condition(load: Load, tmp_path: Path) -> None:
    search = {"sampling_period": [1, 4, [1, 4]], "threshold": {"choices": [0.1], "when": {"sampling_period": [1, 4]}}}
    for point in proposals(load(search), tmp_path, 15):
        assert ("threshold" in point) == (point["sampling_period"] == [1, 4])


@pytest.mark.parametrize("algorithm", ["tpe", "random"])
def test_proposals_of_a_conditional_space_are_the_same_after_a_restart(
    load: Load, tmp_path: Path, algorithm: str
) -> None:
    spec = load(BY_SAMPLER, algorithm=algorithm)
    (tmp_path / "once").mkdir()
    (tmp_path / "often").mkdir()
    at_once = proposals(spec, tmp_path / "once", 12)
    often = []
    for number in range(12):
        study = search_of(tmp_path / "often" / "study", spec)
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, [float(number)])
        often.append(asked.point)
    assert often == at_once
    assert [each.point for each in search_of(tmp_path / "often" / "study", spec).asked()] == at_once


def test_proposal_cut_short_by_a_kill_is_left_out(load: Load, tmp_path: Path) -> None:
    spec = load(BY_SAMPLER)
    file = tmp_path / "study"
    whole = search_of(file, spec).ask()
    with file.open("a") as journal:
        journal.write('{"asked": 1, "params": {"sampler": "{')
    study = search_of(file, spec)
    assert study.asked() == [whole]
    again = study.ask()
    assert search_of(file, spec).asked() == [whole, again]


def test_steps_are_met_to_the_last_digit(load: Load, tmp_path: Path) -> None:
    search = {"start_rate": {"low": 0.3, "high": 0.9, "step": 0.1}, "penalty_warmup": {"low": 0, "high": 2, "step": 2}}
    points = proposals(load(search), tmp_path, 25)
    assert {point["start_rate"] for point in points} <= {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9}
    assert {point["penalty_warmup"] for point in points} == {0, 2}
    assert all(type(point["penalty_warmup"]) is int for point in points)


def test_choices_of_whole_numbers_are_met_by_the_paper_s_reals(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "extends: digits_kd\nknown_points: []\nsearch:\n  sampling_period: [[1, 3, 5, 10], 1, 4]\n"
        "  penalty_lambda: [0, 10, 1000]\n"
        "  threshold: {low: 0.05, high: 0.4, when: {penalty_lambda: [10, 1000], sampling_period: 1}}\n",
        encoding="utf-8",
    )
    space = load_spec(path).space
    proposed = space.to_optuna(space.first[0])
    assert proposed["penalty_lambda"] in space["penalty_lambda"].values.distribution(float).choices  # type: ignore[attr-defined]
    assert space.from_optuna(proposed) == space.first[0]


def test_numbers_in_the_scientific_way_are_numbers(tmp_path: Path) -> None:
    text = "search: {optimizer.learning_rate: [1e-3, 5E-2], penalty_lambda: {low: 1e-2, high: 1e3}}"
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"extends: digits_kd\nknown_points: [{{optimizer.learning_rate: 1e-3}}]\n{text}\n", encoding="utf-8"
    )
    spec = load_spec(path, settings=["known_points=[]", "search.start_rate=", "optimizer.weight_decay=1e-3"])
    assert spec.search["optimizer.learning_rate"].choices == [0.001, 0.05]
    assert spec.optimizer.weight_decay == 0.001


def test_keys_of_loss_optimizer_and_recipe_reach_the_trial(load: Load, inputs: Inputs) -> None:
    search = {
        "loss.temperature": {"low": 1, "high": 8},
        "optimizer.learning_rate": {"low": 0.01, "high": 0.1, "log": True},
        "optimizer.clip_norm": {"low": 0.5, "high": 2},
        "batch_size": [32, 64],
        "ema_decay": [None, 0.9],
        "precision": ["float32", "bfloat16"],
    }
    spec = load(search, optimizer={"weight_decay": 0.001})
    point = {"loss.temperature": 2, "optimizer.learning_rate": 0.02, "optimizer.clip_norm": 1.0}
    job = plan_of(spec, identify_by(inputs)).searched(
        {**point, "batch_size": 32, "ema_decay": 0.9, "precision": "bfloat16"}
    )[0]
    config = job.config
    assert config.loss == {**spec.loss, "temperature": 2.0}  # type: ignore[dict-item]
    assert (config.optimizer.learning_rate, config.optimizer.clip_norm) == (0.02, 1)
    assert config.optimizer.weight_decay == 0.001
    assert (config.batch_size, config.ema_decay, config.precision) == (32, 0.9, "bfloat16")
    assert "loss.temperature 2 · optimizer.learning_rate 0.02" in job.configuration
    assert spec.loss["temperature"] == 4  # type: ignore[call-overload]


def test_key_of_one_of_several_losses_is_searched_by_its_number(load: Load, inputs: Inputs) -> None:
    losses = [{"name": "kd", "weight": 9}, {"name": "dkd", "weight": 1}]
    spec = load({"loss.0.weight": {"low": 1, "high": 10}, "loss.1.beta": [2, 8]}, loss=losses)
    loss = plan_of(spec, identify_by(inputs)).searched({"loss.0.weight": 3.5, "loss.1.beta": 2})[0].config.loss
    assert (loss[0]["weight"], loss[1]["beta"], loss[1]["weight"]) == (3.5, 2, 1)  # type: ignore[index]


def test_searched_loss_comes_with_its_authors_weights_and_the_files_own_keeps_its_own(
    load: Load, inputs: Inputs
) -> None:
    search = {"loss": ["kd", {"name": "dkd", "beta": 2}], "loss.beta": [2, 6]}
    spec = load(search, loss={"name": "kd", "temperature": 2}, kd_weight=7)
    kd, dkd = spec.search["loss"].choices or []
    assert kd["temperature"] == 2 and dkd["temperature"] == 4
    own = plan_of(spec, identify_by(inputs)).searched({"loss": kd})[0]
    other = plan_of(spec, identify_by(inputs)).searched({"loss": dkd, "loss.beta": 6})[0]
    assert (own.config.ce_weight, own.config.kd_weight) == (0.1, 7)
    assert (other.config.ce_weight, other.config.kd_weight, other.config.loss["beta"]) == (1, 1, 6)  # type: ignore[call-overload]
    assert "loss dkd" in other.configuration
    weighed = load({**search, "kd_weight": [3]}, kd_weight=7)
    assert (
        plan_of(weighed, identify_by(inputs))
        .searched({"loss": dkd, "loss.beta": 6, "kd_weight": 3})[0]
        .config.kd_weight
        == 3
    )


def test_preset_reaches_the_searched_sampler(load: Load) -> None:
    spec = load({"sampler": ["random", "kdas"]}, preset="official", validation=0.2)
    assert [choice.get("score_mode") for choice in spec.search["sampler"].choices or []] == [None, "train"]


PAPER = {"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]}


def test_paper_s_setting_comes_first_though_the_file_does_not_name_it(load: Load, tmp_path: Path) -> None:
    other = {"start_rate": 0.5, "sampling_period": 1}
    search = {"start_rate": RATE, "sampling_period": [[1, 3, 5, 10], 1]}
    spec = load(search, known_points=[other])
    assert list(spec.space.first) == [PAPER, other]
    assert proposals(spec, tmp_path, 2) == [PAPER, other]
    written = load(search, known_points=[other, PAPER, other])
    assert list(written.space.first) == [PAPER, other]


@pytest.mark.parametrize(
    ("search", "content", "first"),
    [
        ({"start_rate": {"low": 0.7, "high": 0.9}}, {}, []),  # the paper's 0.6 is not held
        ({"fraction": RATE}, {"sampler": "static_random"}, []),
        ({"exclusion_rate": {"low": 0, "high": 0.1}}, {}, [{"exclusion_rate": 0.05}]),
        ({"exclusion_rate": {"low": 0, "high": 0.1}}, {"preset": "paper", "validation": 0.2}, [{"exclusion_rate": 0}]),
        ({"kd_weight": {"low": 1, "high": 20}, "batch_size": [32, 64]}, {}, [{"kd_weight": 9, "batch_size": 64}]),
        ({"kd_weight": {"low": 1, "high": 20}}, {"loss": {"name": "dkd", "beta": 2}}, [{"kd_weight": 1}]),
        ({"loss.temperature": {"low": 1, "high": 8, "step": 1}}, {}, [{"loss.temperature": 4}]),
        ({"optimizer.learning_rate": {"low": 0.01, "high": 0.1}}, {}, [{"optimizer.learning_rate": 0.05}]),
    ],
)
def test_paper_s_setting_is_that_of_the_preset_as_far_as_it_is_searched(
    load: Load, search: dict[str, Any], content: dict[str, Any], first: list[dict[str, Any]]
) -> None:
    assert list(load(search, **content).space.first) == first


def test_paper_s_sampler_is_first_among_several(load: Load) -> None:
    (first,) = load({"sampler": ["random", "kdas"], "start_rate": RATE, "threshold": [0.1, 0.2]}).space.first
    assert (first["sampler"]["name"], first["start_rate"], first["threshold"]) == ("kdas", 0.6, 0.2)


def test_known_point_names_a_sampler_as_the_file_does(load: Load) -> None:
    spec = load(BY_SAMPLER, known_points=[{"sampler": "static_random", "fraction": 0.5, "kd_weight": 0.5}])
    assert [point["sampler"]["name"] for point in spec.space.first] == ["static_random"]
