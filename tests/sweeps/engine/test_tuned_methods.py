"""Several searched methods in one sweep: turns, equal numbers, finalists, kills. Curves are made up, not trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from kdas.records import Status
from sweeps.engine.restored import restore_search
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.paths import CONFIRM
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve
from tests.sweeps.conftest import curve_row
from tests.sweeps.engine.test_engine import NUM_ROWS, Engine, curve_of

Build = Callable[..., Engine]
PLAIN_TUNED, RANDOM_TUNED = "plain_tuned_search", "rs2_tuned_search"


def curve(job: Job) -> Curve:
    """The tuned plain method reaches the target only at 9 s or 10 s, long after most of the others."""
    if job.method != PLAIN_TUNED:
        return curve_of(job)
    needed = 9 if job.config.epochs == 2 else 10
    rows = [
        Recorded(curve_row(job, number, 0.95 if number >= needed else 0.5), [["step", 64, number]], 1000.0 + number)
        for number in range(1, NUM_ROWS + 1)
    ]
    return Curve(rows, Status.BUDGET)


@pytest.fixture
def engine(spec: SweepSpec, directory: SweepDirectory) -> Build:
    def build(**changed: object) -> Engine:
        content = {
            **spec.model_dump(mode="json"),
            "known_points": [],
            "baselines": {
                "plain_kd": "full",
                "plain_tuned": {
                    "sampler": "full",
                    "search": {"epochs": [1, 2], "optimizer.learning_rate": {"low": 0.01, "high": 0.2, "log": True}},
                },
                "rs2_tuned": {"sampler": "random", "search": {"start_rate": {"low": 0.1, "high": 0.95}}},
            },
            "search": {"start_rate": {"low": 0.1, "high": 0.95}},
            "algorithm": "random",
            "seeds": 3,
            "scheduler": "capping",
            "budget": {"configurations": 6},
            "confirm": {"top": 1, "seeds": 2},
            **changed,
        }
        return Engine(SweepSpec.model_validate(content), directory, truth=curve)

    return build


def searched_configs(sweep: Engine) -> Counter[str]:
    trials = [folder.description for folder in sweep.directory.trials()]
    return Counter(
        method
        for method, _ in {(each["method"], each["config_id"]) for each in trials if each["phase"] == "search"}
        if method.endswith("_search")
    )


def finalists(sweep: Engine) -> Counter[str]:
    return Counter(method for method, _ in {(j.method, j.config_id) for j in sweep.started if j.phase == CONFIRM})


def test_each_method_gets_as_many_configurations_and_a_finalist_of_its_own(engine: Build) -> None:
    sweep = engine()
    assert sweep.start().is_finished
    assert searched_configs(sweep) == {"kdas_search": 6, PLAIN_TUNED: 6, RANDOM_TUNED: 6}
    assert finalists(sweep) == {"plain_kd": 1, "kdas_search": 1, PLAIN_TUNED: 1, RANDOM_TUNED: 1}


def test_methods_take_turns(engine: Build) -> None:
    sweep = engine(scheduler="none")
    sweep.slots = 1
    sweep.start()
    searched = [job.method for job in sweep.started if job.method.endswith("_search") and job.phase != CONFIRM]
    turns = [method for place, method in enumerate(searched) if place % 3 == 0]
    assert turns == ["kdas_search", PLAIN_TUNED, RANDOM_TUNED] * 6


def test_a_slow_method_is_not_stopped_by_a_fast_one(engine: Build) -> None:
    sweep = engine()
    sweep.start()
    statuses = sweep.statuses()
    whole = {j.config_id for j in sweep.started if j.method == PLAIN_TUNED and statuses[j.trial_id] is Status.BUDGET}
    assert whole, "at least its best configuration runs to the end"
    assert Status.CAPPED in statuses.values()


@pytest.mark.parametrize("kills", [[2], [5, 9, 23], [7, 8, 30]])
def test_a_killed_sweep_proposes_what_a_whole_one_does(
    engine: Build, spec: SweepSpec, directory: SweepDirectory, kills: list[int]
) -> None:
    killed = engine(scheduler="none")
    for number in kills:
        killed.start(stop_after=number)
    assert killed.start().is_finished
    assert searched_configs(killed) == {"kdas_search": 6, PLAIN_TUNED: 6, RANDOM_TUNED: 6}
    whole = Engine(killed.spec, SweepDirectory(directory.path.parent / "whole"), truth=curve)
    whole.start()
    assert killed.statuses() == whole.statuses()


def test_a_lost_journal_is_rebuilt_from_the_trials_of_its_search(engine: Build) -> None:
    sweep = engine(scheduler="none")
    sweep.start()
    files = sweep.directory.study_files()
    assert [file.name for file in files] == [
        "search.journal",
        "search.plain_tuned.journal",
        "search.rs2_tuned.journal",
    ]
    for file, name in zip(files, ("", "plain_tuned", "rs2_tuned"), strict=True):
        file.unlink()
        restore_search(sweep.directory, name)
        assert sorted(file.read_text().count('"asked"') for file in files) == [6, 6, 6]
    num_started = len(sweep.started)
    assert sweep.start().is_finished
    assert len(sweep.started) == num_started


def test_a_configuration_of_two_searches_is_trained_once(engine: Build) -> None:
    rates = {"start_rate": [0.1, 0.3, 0.5, 0.9]}
    twice = {"plain_kd": "full", "again": {"sampler": "kdas", "search": rates}}
    same = {"baselines": twice, "search": rates, "algorithm": "brute_force", "budget": {"configurations": 4}}
    sweep = engine(**same, scheduler="none")
    assert sweep.start().is_finished
    ids = [job.trial_id for job in sweep.started]
    assert len(ids) == len(set(ids))
    assert len({job.config_id for job in sweep.started if job.method.endswith("_search")}) == 4


def test_a_trial_stops_only_if_no_search_needs_it(engine: Build) -> None:
    """The wide search beats with 0.5 what is the best of the narrow one, which must still be confirmed."""
    narrow = {"plain_kd": "full", "narrow": {"sampler": "kdas", "search": {"start_rate": [0.1, 0.9]}}}
    wide = {"start_rate": [0.1, 0.5, 0.9]}
    sweep = engine(baselines=narrow, search=wide, algorithm="brute_force", budget={"configurations": 3})
    assert sweep.start().is_finished
    assert {
        job.config.sampler["start_rate"]
        for job in sweep.started
        if job.phase == CONFIRM and "start_rate" in job.config.sampler
    } >= {0.5}
    confirmed = {job.config_id for job in sweep.started if job.phase == CONFIRM}
    assert len(confirmed) == 3, "plain, the best of all, the best of the narrow search"
