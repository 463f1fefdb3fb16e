"""Values that a parameter may take, and how they are described to Optuna."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.space.ranges import RangeConfig
from tests.sweeps.searches import Load, proposals


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


def test_proposals_survive_a_round_trip_through_optuna(spec: SweepSpec) -> None:
    point = {"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]}
    stored = spec.space.to_optuna(point)
    for parameter in spec.space.parameters:
        distribution = parameter.values.distribution(parameter.kind)
        assert distribution._contains(distribution.to_internal_repr(stored[parameter.name]))
    assert spec.space.from_optuna(stored) == point


def test_proposals_keep_four_digits_and_stay_in_their_range(load: Load) -> None:
    spec = load({"threshold": {"low": 0.1, "high": 0.49999}})
    assert spec.space.from_optuna({"threshold": 0.2345678}) == {"threshold": 0.2346}
    assert spec.space.from_optuna({"threshold": 0.49998}) == {"threshold": 0.49999}


@pytest.mark.parametrize(
    ("content", "kind", "values"),
    [
        ({"choices": [1, "a", [2]]}, None, [1, "a", [2]]),
        ({"low": 1, "high": 3}, int, [1, 2, 3]),
        ({"low": 0, "high": 6, "step": 3}, int, [0, 3, 6]),
        ({"low": 0.3, "high": 0.6, "step": 0.1}, float, [0.3, 0.4, 0.5, 0.6]),
        ({"low": 0.3, "high": 0.6}, float, None),
    ],
    ids=str,
)
def test_a_range_lists_its_values_if_they_are_finite(content: dict[str, Any], kind: type | None, values: Any) -> None:
    found = RangeConfig(**content).values(kind)
    assert found == values
    assert kind is not int or all(type(value) is int for value in found or [])


def test_extremes_are_the_ends_of_a_range_and_all_of_its_choices() -> None:
    assert RangeConfig(low=1, high=9).extremes(int) == [1, 9]
    assert RangeConfig(low=0.5, high=0.75).extremes(float) == [0.5, 0.75]
    assert RangeConfig(choices=[3, 1, 2]).extremes(None) == [3, 1, 2]


def test_a_range_holds_the_numbers_that_it_may_propose() -> None:
    stepped = RangeConfig(low=0.3, high=0.9, step=0.1)
    assert all(map(stepped.holds, (0.3, 0.3 + 3 * 0.1, 0.9)))
    assert not any(map(stepped.holds, (0.35, 0.2, 1.0, True, "0.3", None)))
    assert RangeConfig(low=0.3, high=0.9).holds(0.35)
    assert RangeConfig(choices=[[1, 3], 1000]).holds([1, 3]) and RangeConfig(choices=[1000]).holds(1000.0)


def test_a_choice_is_trained_with_as_the_file_has_it_and_not_as_a_point_spells_it() -> None:
    values = RangeConfig(choices=[1000, [1, 3]])
    assert values.from_optuna(values.to_optuna(1000.0)) == 1000
    assert values.from_optuna(values.to_optuna([1, 3])) == [1, 3]
