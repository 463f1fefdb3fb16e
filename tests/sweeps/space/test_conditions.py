"""Which parameters exist together with which values of others."""

from __future__ import annotations

from pathlib import Path

from tests.sweeps.searches import BY_SAMPLER, RATE, Load, proposals


def test_parameter_of_some_samplers_is_proposed_only_beside_them(load: Load, tmp_path: Path) -> None:
    points = proposals(load(BY_SAMPLER), tmp_path)
    assert {point["sampler"]["name"] for point in points} == {"kdas", "random", "static_random"}
    own = {"kdas": {"start_rate", "sampling_period"}, "random": {"start_rate"}, "static_random": {"fraction"}}
    for point in points:
        assert set(point) == {"sampler", "kd_weight", *own[point["sampler"]["name"]]}


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


def test_parameter_that_all_searched_samplers_have_needs_no_condition(load: Load) -> None:
    space = load({"sampler": ["kdas", "random"], "start_rate": RATE, "threshold": [0.1, 0.2]}).space
    assert space["start_rate"].needs == {}
    assert [choice["name"] for choice in space["threshold"].needs["sampler"]] == ["kdas"]
    assert space.is_conditional


def test_stated_condition_on_a_sampler_is_narrowed_to_those_that_have_the_parameter(load: Load) -> None:
    search = {
        "sampler": ["kdas", "random", "static_random"],
        "start_rate": {**RATE, "when": {"sampler": ["random", "static_random"]}},
    }
    assert [choice["name"] for choice in load(search).space["start_rate"].needs["sampler"]] == ["random"]
