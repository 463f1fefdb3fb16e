"""A sweep that begins with the best configurations of others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError
from kdas.files.journal import Journal
from kdas.records import Measure, Status
from sweeps.file.loading import recorded_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import check_spec, keep_spec
from sweeps.prepare.warm_start import told, with_warm_start
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Proposal
from sweeps.record.measure import write_measure
from sweeps.space.space import Point
from tests.sweeps.conftest import search_of, train_on_paper
from tests.sweeps.searches import RATE, Load, proposals

PERIODS = [[1, 3, 5, 10], 1, 3]
# The best first.
BEST: list[Point] = [
    {"start_rate": 0.5, "sampling_period": 3},
    {"start_rate": 0.8, "sampling_period": 1},
    {"start_rate": 0.4, "sampling_period": [1, 3, 5, 10]},
]
STOPPED: Point = {"start_rate": 0.7, "sampling_period": 3}
FILE = Path("/nowhere/mine.yaml")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def mine(runs: Path) -> SweepDirectory:
    (runs / "mine").mkdir(parents=True)
    return SweepDirectory(runs / "mine")


def record(
    directory: SweepDirectory,
    spec: SweepSpec,
    ranked: dict[str, list[Point]] | None = None,
    last: Status = Status.BUDGET,
) -> None:
    """Record a sweep that has tried these points of each search, the best first, and finished.

    Args: last: the status of the trials; one that was stopped has not reached the target.
    """
    keep_spec(spec, directory)
    measure = Measure(
        directory.name, 0.9, "given", 20.0, "plain_kd", "validation", "by-hand", "digits", tuple(spec.seeds), 10
    )
    write_measure(directory, measure)
    plan, ranked = plan_of(spec), {"": BEST} if ranked is None else ranked
    for search in plan.methods.searches:
        for number, point in enumerate(reversed(ranked.get(search.name, []))):
            soon_s = len(ranked[search.name]) - number
            proposal = Proposal(number, search.space.to_optuna(point), search.name)
            for job in plan.searched(point, search):
                is_near = last is Status.BUDGET
                accuracies = [0.95 if step >= soon_s and is_near else 0.3 for step in range(1, 17)]
                train_on_paper(directory, replace(job, proposal=proposal), accuracies, last)


@pytest.fixture
def other(load: Load, runs: Path) -> SweepDirectory:
    spec = load({"start_rate": {"low": 0.1, "high": 0.95}, "sampling_period": PERIODS}, objective="tta")
    directory = SweepDirectory(runs / "other")
    directory.path.mkdir(parents=True)
    record(directory, spec)
    return directory


def first_of(spec: SweepSpec, search: str = "") -> list[Point]:
    return list(next(each for each in spec.methods.searches if each.name == search).space.first)


def warm(spec: SweepSpec, directory: SweepDirectory) -> SweepSpec:
    return with_warm_start(spec, directory, FILE)


def test_the_best_of_another_sweep_is_tried_first_in_order_of_rank(
    load: Load, mine: SweepDirectory, other: SweepDirectory, tmp_path: Path
) -> None:
    search = {"start_rate": RATE, "sampling_period": PERIODS}
    content = {"student": "resnet20", "loss": "dkd", "target": 0.5, "budget": {"configurations": 8}}
    spec = warm(load(search, warm_start=["other"], **content), mine)
    paper = {"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]}
    assert first_of(spec) == [paper, *BEST]
    assert proposals(spec, tmp_path, 4) == [paper, *BEST]
    assert told(spec.warm_start.taken) == "3 settings of other are tried first"


def test_there_are_as_many_as_random_proposals_would_be_and_some_in_any_case(
    load: Load, mine: SweepDirectory, runs: Path
) -> None:
    search = {"start_rate": {"low": 0.1, "high": 0.95}}
    directory = SweepDirectory(runs / "long")
    directory.path.mkdir()
    points = [{"start_rate": round(0.1 + number / 20, 2)} for number in range(15)]
    record(directory, load(search), {"": points})

    def number(startup: int, configurations: int = 30) -> int:
        algorithm, budget = {"name": "tpe", "startup": startup}, {"configurations": configurations}
        spec = warm(load(search, warm_start=["long"], algorithm=algorithm, budget=budget), mine)
        assert [each.point for each in spec.warm_start.taken] == [
            point for point in points if point != {"start_rate": 0.6}
        ][: len(spec.warm_start.taken)]
        return len(first_of(spec))

    assert number(10) == 10
    assert number(0) == number(4) == 7  # the paper's point and six
    assert number(10, configurations=3) == 3
    with pytest.raises(UserError, match=r"mine\.yaml: warm_start: budget\.configurations: 1 leaves no room for"):
        number(10, configurations=1)


@pytest.mark.parametrize(
    ("expected_s", "ranked"), [(0.001, [STOPPED, *BEST]), (99.0, [*BEST, STOPPED]), (None, BEST)], ids=str
)
def test_a_stopped_setting_ranks_by_what_its_search_was_told_to_expect_of_it(
    load: Load, mine: SweepDirectory, other: SweepDirectory, expected_s: float | None, ranked: list[Point]
) -> None:
    spec = recorded_spec(other.spec_file)
    search = spec.methods.searches[0]
    proposal = Proposal(len(BEST), search.space.to_optuna(STOPPED))
    # Racing dropped it after its first seed: the others have no trial.
    job = replace(plan_of(spec).searched(STOPPED, search)[0], proposal=proposal)
    train_on_paper(other, job, [0.3, 0.3], Status.CAPPED)
    Journal(other.study_file).append([{"told": len(BEST), "values": None if expected_s is None else [expected_s]}])
    content = {"warm_start": ["other"], "budget": {"configurations": 9}}
    warmed = warm(load({"start_rate": RATE, "sampling_period": PERIODS}, **content), mine)
    assert [each.point for each in warmed.warm_start.taken] == ranked


def test_settings_are_taken_in_turn_and_equal_ones_count_once(
    load: Load, mine: SweepDirectory, other: SweepDirectory, runs: Path
) -> None:
    search = {"start_rate": {"low": 0.1, "high": 0.95}, "sampling_period": PERIODS}
    directory = SweepDirectory(runs / "second")
    directory.path.mkdir()
    more: list[Point] = [BEST[1], {"start_rate": 0.2, "sampling_period": 1}, {"start_rate": 0.3, "sampling_period": 1}]
    record(directory, load(search), {"": more})
    spec = load(
        search,
        warm_start=["other", "second"],
        known_points=[BEST[0]],
        algorithm={"startup": 6},
        budget={"configurations": 9},
    )
    spec = warm(spec, mine)
    assert first_of(spec)[2:] == [BEST[1], more[1], BEST[2], more[2]]
    assert [each.sweep for each in spec.warm_start.taken] == ["second", "second", "other", "second"]
    assert told(spec.warm_start.taken) == "3 settings of second and 1 setting of other are tried first"


@pytest.mark.parametrize(
    ("search", "content", "first"),
    [
        # What this sweep does not search is left out; equal points count once.
        ({"sampling_period": PERIODS}, {}, [{"sampling_period": 3}, {"sampling_period": 1}]),
        # What the other sweep did not search is as its file has it.
        (
            {"start_rate": RATE, "end_rate": RATE},
            {},
            [{"start_rate": rate, "end_rate": 0.4} for rate in (0.5, 0.8, 0.4)],
        ),
        # What is outside is moved to the nearest value.
        ({"start_rate": {"low": 0.65, "high": 0.7}}, {}, [{"start_rate": 0.65}, {"start_rate": 0.7}]),
        ({"start_rate": {"low": 0.36, "high": 0.96, "step": 0.1}}, {}, [{"start_rate": r} for r in (0.46, 0.76, 0.36)]),
        ({"start_rate": [0.45, 0.7]}, {}, [{"start_rate": 0.45}, {"start_rate": 0.7}]),
        # A word or a list that is no choice has no nearest one.
        ({"sampling_period": [[1, 3, 5, 10], 1]}, {}, [{"sampling_period": 1}]),
        # What trials of another loss do not have is as here.
        (
            {"start_rate": RATE, "loss.beta": {"low": 1, "high": 9}},
            {"loss": {"name": "dkd", "beta": 3}},
            [{"start_rate": rate, "loss.beta": 3} for rate in (0.5, 0.8, 0.4)],
        ),
        (
            {"start_rate": RATE, "loss": [{"name": "kd", "temperature": 4}, "dkd"]},
            {},
            [{"loss": {"name": "kd"}, "start_rate": rate} for rate in (0.5, 0.8, 0.4)],
        ),
        # Conditions hold.
        (
            {"sampling_period": PERIODS, "start_rate": {**RATE, "when": {"sampling_period": 3}}},
            {},
            [{"sampling_period": 3, "start_rate": 0.5}, {"sampling_period": 1}],
        ),
        (
            {"sampler": ["random", "kdas"], "start_rate": RATE},
            {},
            [{"sampler": {"name": "kdas"}, "start_rate": rate} for rate in (0.5, 0.8, 0.4)],
        ),
    ],
    ids=str,
)
def test_a_configuration_becomes_the_nearest_point_of_this_space(
    load: Load,
    mine: SweepDirectory,
    other: SweepDirectory,
    search: dict[str, Any],
    content: dict[str, Any],
    first: list[Point],
) -> None:
    spec = warm(load(search, warm_start=["other"], budget={"configurations": 9}, **content), mine)

    def brief(point: Point) -> Point:
        return {key: {"name": value["name"]} if isinstance(value, dict) else value for key, value in point.items()}

    taken = [brief(each.point) for each in spec.warm_start.taken]
    assert taken == [
        point for point in first if point not in [brief(each) for each in load(search, **content).space.first]
    ]


@pytest.mark.parametrize("algorithm", ["tpe", "random", "gp", "cmaes", "nsga2", "grid", "brute_force"])
def test_every_algorithm_tries_them_first_and_resumes_the_same(
    load: Load, mine: SweepDirectory, other: SweepDirectory, tmp_path: Path, algorithm: str
) -> None:
    is_exhaustive = algorithm in ("grid", "brute_force")
    rate = {"low": 0.2, "high": 0.8, **({"step": 0.1} if is_exhaustive else {})}
    search = {"start_rate": rate, "end_rate": {**rate, "high": 0.5}}
    content = {"algorithm": {"name": algorithm, "startup": 4}, "budget": {"configurations": 9}}
    spec = warm(load(search, warm_start=["other"], **content), mine)
    warmed = [{"start_rate": rate, "end_rate": 0.4} for rate in (0.5, 0.8, 0.4)]
    (tmp_path / "once").mkdir()
    at_once = proposals(spec, tmp_path / "once", 9)
    assert at_once[1:4] == warmed
    assert len({str(each) for each in at_once}) == 9
    keep_spec(spec, mine)
    again: list[Point] = []
    for number in range(9):
        study = search_of(mine.study_file, recorded_spec(mine.spec_file))
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, [float(number)])
        again.append(asked.point)
    assert again == at_once


def test_what_was_taken_is_recorded_and_the_other_sweep_is_needed_no_longer(
    load: Load, mine: SweepDirectory, other: SweepDirectory, runs: Path
) -> None:
    search = {"start_rate": RATE, "sampling_period": PERIODS}
    cold = load(search, warm_start=["other"], budget={"configurations": 9})
    spec = warm(cold, mine)
    keep_spec(spec, mine)
    other.path.rename(runs / "gone")
    again = warm(cold, mine)
    assert first_of(again) == first_of(spec) and again.warm_start == spec.warm_start
    check_spec(again, mine)
    assert first_of(recorded_spec(mine.spec_file)) == first_of(spec)
    for names in ([], ["another"]):
        changed = load(search, warm_start=names, budget={"configurations": 9})
        with pytest.raises(UserError, match=r"warm_start\.sweeps was \['other'\] when this sweep began and is \["):
            check_spec(warm(changed, mine), mine)
    narrow = load({**search, "start_rate": {"low": 0.7, "high": 0.9}}, warm_start=["other"])
    with pytest.raises(UserError, match=r"search\.start_rate\.low was 0\.3 when this sweep began"):
        check_spec(warm(narrow, mine), mine)


def test_each_search_takes_what_fits_it(load: Load, mine: SweepDirectory, runs: Path) -> None:
    search = {"start_rate": RATE}
    baselines = {
        "plain_kd": "full",
        "tuned": {"sampler": "full", "search": {"optimizer.learning_rate": {"low": 0.01, "high": 0.1}}},
        "rates": {"sampler": "static_random", "search": {"fraction": {"low": 0.1, "high": 0.9}}},
    }
    directory = SweepDirectory(runs / "methods")
    directory.path.mkdir()
    ranked = {"": [{"start_rate": 0.4}], "tuned": [{"optimizer.learning_rate": 0.03}]}
    spec = load(search, baselines={name: baselines[name] for name in ("plain_kd", "tuned")})
    record(directory, spec, ranked)
    baselines["renamed"] = baselines.pop("tuned")
    mixed = warm(load(search, baselines=baselines, warm_start=["methods"], budget={"configurations": 9}), mine)
    assert first_of(mixed)[1:] == ranked[""]
    assert first_of(mixed, "renamed") == ranked["tuned"]
    assert first_of(mixed, "rates") == []
    assert (
        told(mixed.warm_start.taken)
        == "1 setting of methods is tried first; renamed: 1 setting of methods is tried first"
    )


def test_each_cell_has_a_warm_start_of_its_own(load: Load, mine: SweepDirectory, other: SweepDirectory) -> None:
    search = {"start_rate": RATE, "sampling_period": PERIODS}
    cells = {"a": {"epochs": 3}, "b": {"epochs": 4, "warm_start": ["other"]}}
    given = load(search, cells=cells, budget={"configurations": 9})
    assert given.has_warm_start
    spec = warm(given, mine)
    assert [first_of(cell)[1:] for cell in spec.cells.values()] == [[], BEST]
    keep_spec(spec, mine)
    other.path.rename(other.path.with_name("gone"))
    assert warm(given, mine).cells["b"].warm_start == spec.cells["b"].warm_start  # before the cell has begun
    keep_spec(spec.cells["b"], _made(mine.cell("b")))
    assert warm(given, mine).cells["b"].warm_start == spec.cells["b"].warm_start


def _made(directory: SweepDirectory) -> SweepDirectory:
    directory.path.mkdir(parents=True)
    return directory


def test_a_single_sweep_needs_no_list(load: Load) -> None:
    spec = load({"start_rate": RATE}, warm_start="other")
    assert spec.warm_start == load({"start_rate": RATE}, warm_start=["other"]).warm_start
    for given, said in ((3, r"expected a list of sweeps, got 3"), (["a", "a"], r"contains a duplicate\. Name each")):
        with pytest.raises(UserError, match=rf"warm_start: {said}"):
            load({"start_rate": RATE}, warm_start=given)


def test_a_cell_and_a_folder_can_be_named(
    load: Load, mine: SweepDirectory, other: SweepDirectory, runs: Path, tmp_path: Path
) -> None:
    search = {"start_rate": RATE, "sampling_period": PERIODS}
    keep_spec(load(search, cells={"a": {"epochs": 3}}), _made(SweepDirectory(runs / "several")))
    (runs / "several" / "cells").mkdir()
    other.path.rename(runs / "several" / "cells" / "a")
    (tmp_path / "files").mkdir()
    for name in ("several/a", str(runs / "several" / "cells" / "a"), "../runs/several/cells/a"):
        spec = with_warm_start(
            load(search, warm_start=[name], budget={"configurations": 9}), mine, tmp_path / "files" / "mine.yaml"
        )
        assert first_of(spec)[1:] == BEST


@pytest.mark.parametrize(
    ("names", "search", "said"),
    [
        (["othre"], {"start_rate": RATE}, r"othre: no sweep of this name has run in .*runs\. Did you mean other\?"),
        (["{folder}"], {"start_rate": RATE}, r"nothing_here: no sweep has run in this folder\. Known: "),
        (["bare"], {"start_rate": RATE}, r"bare: none of its configurations is complete\. Run that sweep, or"),
        (["stopped"], {"start_rate": RATE}, r"stopped: none of its configurations is complete\. Run that sweep, or"),
        (["several"], {"start_rate": RATE}, r"several: consists of cells\. Name some of them: several/a\."),
        (["damaged"], {"start_rate": RATE}, r"damaged/measure\.json: is damaged"),
        (["torn"], {"start_rate": RATE}, r"torn/trials/.*curve\.jsonl: "),
        (
            ["other"],
            {"sampling_period": [[1, 2, 3, 4], [1, 3, 4, 5]]},
            r"other: none of its configurations fits `search`: its sampling_period is not among the values of"
            r" search\.sampling_period\. Leave that sweep out\.",
        ),
    ],
)
def test_what_nothing_can_be_taken_from_is_one_line(
    load: Load,
    mine: SweepDirectory,
    other: SweepDirectory,
    runs: Path,
    names: list[str],
    search: dict[str, Any],
    said: str,
) -> None:
    spec = load({"start_rate": {"low": 0.1, "high": 0.95}, "sampling_period": PERIODS})
    keep_spec(spec, _made(SweepDirectory(runs / "bare")))
    for name in ("damaged", "torn", "stopped"):
        last = Status.CAPPED if name == "stopped" else Status.BUDGET
        record(_made(SweepDirectory(runs / name)), spec, {"": [{"start_rate": 0.5, "sampling_period": 3}]}, last)
    (runs / "damaged" / "measure.json").write_text("{}")
    next((runs / "torn").glob("trials/*/*/curve.jsonl")).write_text("")
    keep_spec(load(search, cells={"a": {"epochs": 3}}), _made(SweepDirectory(runs / "several")))
    record(_made(SweepDirectory(runs / "several").cell("a")), spec)
    (runs / "nothing_here").mkdir()
    names = [name.format(folder=runs / "nothing_here") for name in names]
    with pytest.raises(UserError, match=said) as refused:
        warm(load(search, warm_start=names), mine)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(f"{FILE}: warm_start: ")
