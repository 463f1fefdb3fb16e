"""Replays of a recorded sweep: what is compared, and what is refused."""

from __future__ import annotations

import io
import math
from pathlib import Path

import pytest
from rich.console import Console

from kdas.errors import UserError
from kdas.records import Measure, Status
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import write_measure
from sweeps.replay.recorded import Recording, load_recording
from sweeps.replay.simulate import Setting, Simulation, settings_of, simulate
from tests.sweeps.conftest import search_of, train_on_paper

TAU_REF_S = 10.0
MEASURE = Measure("tiny", 0.9, "given", TAU_REF_S, "plain_kd", "validation", "by-hand", "digits", (1, 2), 10)
CONFIGURATIONS = 16


@pytest.fixture
def whole(spec: SweepSpec) -> SweepSpec:
    content = {
        **spec.model_dump(mode="json"),
        "baselines": {"plain_kd": "full"},
        "search": {"start_rate": {"low": 0.1, "high": 0.95}},
        "known_points": [],
        "algorithm": "random",
        "budget": {"configurations": CONFIGURATIONS},
    }
    return SweepSpec.model_validate(content)


def record(spec: SweepSpec, directory: SweepDirectory, last: Status = Status.BUDGET) -> None:
    """Write a finished sweep in which rates near 0.5 reach the target fastest; its last trials end with `last`."""
    write_measure(directory, MEASURE)
    for job in plan_of(spec).baselines:
        train_on_paper(directory, job, [0.1 * number for number in range(1, 11)])
    search = search_of(directory.study_file, spec)
    for number in range(spec.num_configurations):
        asked = search.ask()
        assert asked is not None
        soon_s = min(10, 1 + round(20 * abs(asked.point["start_rate"] - 0.5)))
        for job in plan_of(spec).searched(asked.point):
            is_last = number == spec.num_configurations - 1
            accuracies = [0.95 if step >= soon_s else 0.3 for step in range(1, 11)]
            train_on_paper(directory, job, accuracies, last if is_last else Status.BUDGET)
        search.tell(asked.number, [float(soon_s)])


@pytest.fixture
def recording(whole: SweepSpec, directory: SweepDirectory) -> Recording:
    record(whole, directory)
    return load_recording(whole, directory)


def test_a_replay_trains_every_recorded_configuration_once_if_nothing_is_stopped(recording: Recording) -> None:
    outcome = Simulation(recording, surrogate=False).outcome(Setting("random", "none", 2), seed=0)
    assert outcome.search_ref_s == pytest.approx(CONFIGURATIONS * 2 * TAU_REF_S)
    assert 0 < outcome.found_ref_s <= outcome.search_ref_s


def test_the_same_seed_replays_the_same(recording: Recording) -> None:
    simulation = Simulation(recording, surrogate=False)
    first, again, other = (simulation.outcome(Setting("tpe", "capping", 2), seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_capping_finds_the_best_for_less(recording: Recording) -> None:
    simulation = Simulation(recording, surrogate=False)
    for seed in range(3):
        capped = simulation.outcome(Setting("random", "capping", 2), seed)
        whole = simulation.outcome(Setting("random", "none", 2), seed)
        assert math.isfinite(capped.found_ref_s), "the winner is never stopped"
        assert capped.search_ref_s < whole.search_ref_s


def test_finalist_of_racing_is_as_good_for_much_less(recording: Recording) -> None:
    """Not for less than capping: two seeds of sixteen settings hardly show the noise."""
    simulation = Simulation(recording, surrogate=False)
    for seed in range(3):
        raced, capped, whole = (
            simulation.outcome(Setting("random", each, 2), seed) for each in ("racing", "capping", "none")
        )
        assert whole.regret == 0
        assert capped.regret == 0, "capping is exact"
        assert raced.regret <= 0.02
        assert raced.search_ref_s < 0.7 * whole.search_ref_s


@pytest.mark.parametrize("slots", [1, 2, 8])
def test_what_finding_costs_is_a_part_of_the_whole(recording: Recording, slots: int) -> None:
    """This also holds while plain distillation still runs beside the search."""
    for seed in range(3):
        outcome = Simulation(recording, surrogate=False).outcome(Setting("random", "none", slots), seed)
        assert outcome.found_ref_s <= outcome.search_ref_s == pytest.approx(CONFIGURATIONS * 2 * TAU_REF_S)


def test_more_slots_take_less_time_and_no_less_work(recording: Recording) -> None:
    simulation = Simulation(recording, surrogate=False)
    few, many = (simulation.outcome(Setting("random", "none", slots), 0) for slots in (1, 8))
    assert many.wall_s < few.wall_s / 4
    assert many.search_ref_s == few.search_ref_s


def test_a_warm_start_finds_the_best_at_once_where_the_other_sweep_knew_it(
    whole: SweepSpec, recording: Recording, tmp_path: Path
) -> None:
    """The other sweep drew other settings: its best are replaced by the nearest that were recorded here."""
    other = SweepDirectory(tmp_path / "runs" / "other")
    other.path.mkdir()
    seeded = SweepSpec.model_validate({**whole.model_dump(), "algorithm": {"name": "random", "seed": 5}})
    keep_spec(seeded, other)
    record(seeded, other)
    simulation = Simulation(recording, False, {"other": other})
    assert len(simulation.taken) == 6
    cold, warm = (
        [simulation.outcome(Setting("tpe", "none", 1, is_warm), seed).found_ref_s for seed in range(5)]
        for is_warm in (False, True)
    )
    one_configuration_s = 2 * TAU_REF_S
    assert all(found <= 5 * one_configuration_s for found in warm)
    assert sum(warm) < sum(cold)


def test_rows_of_a_warm_start_are_beside_the_cold_ones(
    whole: SweepSpec, recording: Recording, directory: SweepDirectory
) -> None:
    keep_spec(whole, directory)
    console = Console(file=io.StringIO(), width=160)
    settings = settings_of("random,tpe", "none", "2", is_warm=True)
    simulate(recording, False, settings, 2, console, {"tiny": directory})
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "With a warm start, 6 settings of tiny are tried first." in shown
    starts = [line.partition(" none ")[0].strip() for line in shown.splitlines() if " none " in line]
    assert starts == ["random", "random, warm start", "tpe", "tpe, warm start"]


def test_a_surrogate_answers_between_recorded_settings(recording: Recording) -> None:
    outcome = Simulation(recording, surrogate=True).outcome(Setting("random", "none", 2), seed=3)
    assert outcome.search_ref_s > 0


def test_what_it_prints_says_what_it_is(recording: Recording) -> None:
    console = Console(file=io.StringIO(), width=160)
    simulate(recording, True, settings_of("random", "none", "2"), 2, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "says nothing about training" in shown
    assert "Means over 2 replays" in shown


def test_curves_of_stopped_trials_are_no_record(whole: SweepSpec, directory: SweepDirectory) -> None:
    record(whole, directory, Status.CAPPED)
    assert len(load_recording(whole, directory).points) == CONFIGURATIONS - 1


def test_a_sweep_that_has_nothing_to_replay_is_refused(whole: SweepSpec, directory: SweepDirectory) -> None:
    with pytest.raises(UserError, match="the baselines have not finished"):
        load_recording(whole, directory)
    write_measure(directory, MEASURE)
    with pytest.raises(UserError, match="plain_kd has not finished on seed 1"):
        load_recording(whole, directory)
    for job in plan_of(whole).baselines:
        train_on_paper(directory, job, [0.5] * 10)
    with pytest.raises(UserError, match="searched configurations that have finished on all seeds: 0;"):
        load_recording(whole, directory)


@pytest.mark.parametrize(
    ("algorithms", "schedulers", "slots", "message"),
    [
        ("tpe", "capping", "two", "SLOTS=two: expected whole numbers"),
        ("tpe", "capping", "0", "SLOTS=0: expected whole numbers"),
        ("tbe", "capping", "2", "tbe"),
        ("tpe", "caping", "2", "caping"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_replayed(
    recording: Recording, algorithms: str, schedulers: str, slots: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        simulate(recording, False, settings_of(algorithms, schedulers, slots), 1, Console(quiet=True))
