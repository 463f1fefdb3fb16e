"""Proposals of a search that is stopped and started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.engine.proposals import ConfigurationSearch
from tests.sweeps.conftest import search_of
from tests.sweeps.searches import BY_SAMPLER, Load, proposals


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


def test_known_points_come_back_as_they_were_given_after_a_restart(load: Load, tmp_path: Path) -> None:
    search = {"penalty_lambda": {"low": 1, "high": 1e6, "log": True}, "start_rate": {"low": 0.1, "high": 0.9}}
    points = [{"penalty_lambda": 12345, "start_rate": 0.1234567}]
    spec = load(search, known_points=points)

    def study() -> ConfigurationSearch:
        return search_of(tmp_path / "study", spec)

    asked = [study().ask(), study().ask()]
    assert [each.point for each in asked if each] == [{"penalty_lambda": 1000, "start_rate": 0.6}, points[0]]
    assert study().asked() == asked


@pytest.mark.parametrize("algorithm", ["tpe", "random", "gp", "cmaes", "nsga2", "brute_force"])
def test_a_point_that_is_added_later_is_proposed_next(load: Load, tmp_path: Path, algorithm: str) -> None:
    values = {"low": 0.2, "high": 0.8, "step": 0.1} if algorithm == "brute_force" else {"low": 0.2, "high": 0.8}
    search = {"start_rate": values, "end_rate": {**values, "high": 0.5}}
    given = {"start_rate": 0.4, "end_rate": 0.3}
    spec = load(search, known_points=[given], algorithm={"name": algorithm, "startup": 2})
    before = proposals(spec, tmp_path, 6)
    assert before[1] == given and search_of(tmp_path / "study", spec).num_untried == 0
    added = next(point for rate in (0.5, 0.6, 0.7) if (point := {"start_rate": rate, "end_rate": 0.4}) not in before)
    grown = load(search, known_points=[given, added], algorithm={"name": algorithm, "startup": 2})
    study = search_of(tmp_path / "study", grown)
    assert [each.point for each in study.asked()] == before and study.num_untried == 1
    asked = study.ask()
    assert asked is not None and asked.point == added
    study.tell(asked.number, [6.0])
    later = study.ask()
    assert later is not None
    again = search_of(tmp_path / "study", grown)
    assert [each.point for each in again.asked()] == [*before, added, later.point] and again.num_untried == 0
    assert later.point not in [*before, added]


def test_a_point_that_is_added_to_a_grid_leaves_the_other_combinations(load: Load, tmp_path: Path) -> None:
    search = {"start_rate": [0.2, 0.4, 0.6, 0.8], "end_rate": [0.1, 0.2]}
    proposals(load(search, algorithm="grid"), tmp_path, 3)
    grown = load(search, algorithm="grid", known_points=[{"start_rate": 0.8, "end_rate": 0.2}])
    asked = []
    study = search_of(tmp_path / "study", grown)
    while (each := study.ask()) is not None:
        asked.append(each.point)
    assert asked[0] == {"start_rate": 0.8, "end_rate": 0.2}
    every = [tuple(each.point.values()) for each in study.asked()]
    assert sorted(every) == sorted({(rate, end) for rate in search["start_rate"] for end in search["end_rate"]})
