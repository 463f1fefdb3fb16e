"""A confirmation in looks: when it adds seeds, when it ends, and what a kill or a crash changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdas.records import Status, is_searched
from sweeps.engine.sequential import level_at, looks_between
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure
from sweeps.record.paths import CONFIRM
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve
from tests.sweeps.conftest import curve_row
from tests.sweeps.engine.test_engine import NUM_ROWS, Engine

LOOKS = looks_between(3, 9)
PLAIN = {"plain_kd": "full"}
# What each method's trials do on fresh seeds: the evaluation at which they reach the target.
Times = Callable[[Job], int]


def sooner_by(saved: Callable[[int], int]) -> Times:
    """Plain distillation takes 8 s, give or take one; what is searched `saved(seed)` less."""

    def reached_at(job: Job) -> int:
        plain = 8 + job.config.seed % 2
        return plain - saved(job.config.seed) if is_searched(job.method) else plain

    return reached_at


# After three seeds this is clear.
CLEAR = sooner_by(lambda seed: 6)
# Two seeds of three speak for it.
SOON_CLEAR = sooner_by(lambda seed: (6, 6, 0)[seed % 3])
# One seed speaks for it and the next against it, by much: nine seeds decide nothing.
HOPELESS = sooner_by(lambda seed: (-1, 1)[seed % 2])


def curve_by(reached_at: Times, crashes: Callable[[Job], bool] = lambda job: False) -> Callable[[Job], Curve]:
    def truth(job: Job) -> Curve:
        number_reached = reached_at(job) if job.phase == CONFIRM else 5
        rows = [
            Recorded(curve_row(job, number, 0.95 if number >= number_reached else 0.5), [["step", 64, number]], 1.0)
            for number in range(1, NUM_ROWS + 1)
        ]
        if job.phase == CONFIRM and crashes(job):
            return Curve(rows[:1], Status.CRASHED)
        return Curve(rows, Status.BUDGET)

    return truth


@pytest.fixture
def engine(spec: SweepSpec, directory: SweepDirectory) -> Callable[..., Engine]:
    def build(
        reached_at: Times,
        crashes: Callable[[Job], bool] = lambda job: False,
        baselines: dict[str, str] = PLAIN,
        **confirm: Any,
    ) -> Engine:
        content = {
            **spec.model_dump(mode="json"),
            "baselines": baselines,
            "known_points": [],
            "search": {"start_rate": [0.2]},
            "seeds": 1,
            "budget": {"configurations": 1},
            "confirm": {"top": 1, "until": "decided", "least": LOOKS[0], "most": LOOKS[-1], **confirm},
        }
        return Engine(SweepSpec.model_validate(content), directory, truth=curve_by(reached_at, crashes))

    return build


def fresh_seeds(sweep: Engine) -> list[int]:
    """The seeds on which something was confirmed, in the order in which they began."""
    return list(dict.fromkeys(job.config.seed for job in sweep.started if job.phase == CONFIRM))


def seeds_up_to(number: int) -> list[int]:
    return list(range(1001, 1001 + number))


def test_a_clear_difference_needs_the_first_look_alone(engine: Callable[..., Engine]) -> None:
    sweep = engine(CLEAR)
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(LOOKS[0])
    measure = read_measure(sweep.directory)
    assert measure is not None
    assert measure.confirm_seeds == tuple(seeds_up_to(LOOKS[0]))
    assert measure.confirm_level == level_at(LOOKS, 1) < 0.05
    assert len(measure.confirm_configs) == 2
    assert measure.num_planned_trials == 2 + 2 * LOOKS[0]


def test_what_is_not_worth_deciding_ends_at_the_second_look(engine: Callable[..., Engine]) -> None:
    sweep = engine(HOPELESS)
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(LOOKS[1])


def test_seeds_are_added_look_by_look(engine: Callable[..., Engine]) -> None:
    sweep = engine(SOON_CLEAR)
    sweep.slots = 1
    told = []
    while not sweep.start(stop_after=len(sweep.started) + 1).is_finished:
        measure = read_measure(sweep.directory)
        if measure is not None:
            told.append((len(measure.confirm_seeds), measure.num_planned_trials, measure.last_look))
    looks = list(dict.fromkeys(told))
    before = (0, *LOOKS)
    assert looks == [(look, 2 + 2 * look, before[number]) for number, look in enumerate(LOOKS[: len(looks)])]
    assert fresh_seeds(sweep) == seeds_up_to(looks[-1][0])
    assert len(looks) > 3


def test_the_most_seeds_end_a_confirmation_that_is_not_decided(engine: Callable[..., Engine]) -> None:
    sweep = engine(SOON_CLEAR, most=LOOKS[1])
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(LOOKS[1])


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_no_trial_of_a_look_starts_before_the_last_look_has_ended(engine: Callable[..., Engine], slots: int) -> None:
    sweep = engine(HOPELESS)
    sweep.slots = slots
    begun: list[tuple[int, int]] = []
    of_curve = sweep.truth

    def watched(job: Job) -> Curve:
        ended = sum(f.is_final and f.description["phase"] == CONFIRM for f in sweep.directory.trials())
        begun.append((job.config.seed, ended))
        return of_curve(job)

    sweep.truth = watched
    sweep.start()
    for seed, num_ended in begun:
        if seed > 1000 + LOOKS[0]:
            assert num_ended >= 2 * LOOKS[0]


@pytest.mark.parametrize("reached_at", [CLEAR, HOPELESS, SOON_CLEAR])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_a_killed_confirmation_ends_as_an_undisturbed_one(
    engine: Callable[..., Engine], reached_at: Times, every: int
) -> None:
    killed = engine(reached_at)
    killed.slots = 1
    while not killed.start(stop_after=len(killed.started) + every).is_finished:
        pass
    before = read_measure(killed.directory)
    num_started = len(killed.started)
    assert killed.start().is_finished
    assert (len(killed.started), read_measure(killed.directory)) == (num_started, before), "nothing is left to do"
    whole = Engine(killed.spec, SweepDirectory(killed.directory.path.parent / "whole"), truth=killed.truth)
    whole.directory.path.mkdir()
    whole.start()
    assert set(fresh_seeds(killed)) == set(fresh_seeds(whole))
    assert killed.statuses() == whole.statuses()


def test_a_lost_measure_is_found_again(engine: Callable[..., Engine]) -> None:
    sweep = engine(HOPELESS)
    sweep.start()
    measure, num_started = read_measure(sweep.directory), len(sweep.started)
    assert measure is not None
    sweep.directory.measure_file.unlink()
    assert sweep.start().is_finished
    assert len(sweep.started) == num_started
    assert read_measure(sweep.directory) == measure


def test_crashes_do_not_hold_a_confirmation_up(engine: Callable[..., Engine]) -> None:
    """Each searched trial crashes after 1 s: its time is between 1 s and the budget, which decides nothing."""
    sweep = engine(CLEAR, lambda job: is_searched(job.method))
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(LOOKS[1])
    tried = [job.trial_id for job in sweep.started]
    assert len(tried) == len(set(tried)), "no trial is tried twice in one start"


def test_a_crash_counts_against_whoever_would_gain(engine: Callable[..., Engine]) -> None:
    crashing = engine(CLEAR, lambda job: is_searched(job.method) and job.config.seed == 1002)
    crashing.start()
    assert len(fresh_seeds(crashing)) > LOOKS[0]


def test_a_success_after_a_crash_does_not_take_looks_back(engine: Callable[..., Engine]) -> None:
    sweep = engine(CLEAR, lambda job: is_searched(job.method) and job.config.seed == 1002)
    sweep.start()
    measure = read_measure(sweep.directory)
    sweep.truth = curve_by(CLEAR)
    assert sweep.start().is_finished
    assert read_measure(sweep.directory) == measure
    assert set(sweep.statuses().values()) == {Status.BUDGET}


def test_more_seeds_at_most_extend_an_undecided_confirmation(engine: Callable[..., Engine]) -> None:
    short = engine(SOON_CLEAR, most=LOOKS[0])
    short.start()
    assert fresh_seeds(short) == seeds_up_to(LOOKS[0])
    longer = engine(SOON_CLEAR, most=LOOKS[-1])
    longer.start()
    assert len(short.statuses()) > 2 + 2 * LOOKS[0]


def test_a_fixed_number_of_seeds_is_read_once_at_the_full_level(engine: Callable[..., Engine]) -> None:
    sweep = engine(HOPELESS)
    fixed = SweepSpec.model_validate({**sweep.spec.model_dump(mode="json"), "confirm": {"top": 1, "seeds": 4}})
    sweep.spec = fixed
    assert sweep.start().is_finished
    measure = read_measure(sweep.directory)
    assert measure is not None
    assert (measure.confirm_level, len(measure.confirm_seeds)) == (0.05, 4)


def test_a_confirmation_of_plain_distillation_alone_has_nothing_to_decide(engine: Callable[..., Engine]) -> None:
    sweep = engine(CLEAR)
    of_curve = sweep.truth
    sweep.truth = lambda job: (
        Curve(of_curve(job).rows[:1], Status.CRASHED) if is_searched(job.method) else of_curve(job)
    )
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(LOOKS[0])


@pytest.mark.parametrize(("plain_methods", "num_seeds"), [((), LOOKS[0]), (("plain_kd", "rs2"), LOOKS[1])])
def test_every_method_that_trains_on_all_samples_must_be_beaten(
    engine: Callable[..., Engine], plain_methods: tuple[str, ...], num_seeds: int
) -> None:
    """What is searched is as fast as rs2, which is a candidate itself unless the measure counts it as plain."""
    of_plain = sooner_by(lambda seed: 0)
    sweep = engine(lambda job: of_plain(job) if job.method == "plain_kd" else 4, baselines={**PLAIN, "rs2": "random"})
    sweep.plain_methods = plain_methods
    assert sweep.start().is_finished
    assert fresh_seeds(sweep) == seeds_up_to(num_seeds)


@pytest.mark.parametrize(
    ("reached_at", "most", "told"),
    [
        (CLEAR, 9, "The confirmation ended after 3 fresh seeds: its answer is decided."),
        (HOPELESS, 9, "The confirmation ended after 4 fresh seeds: by 9, a decision is unlikely."),
        (SOON_CLEAR, 4, "The confirmation ended after 4 fresh seeds, the most: its answer is not decided."),
    ],
)
def test_why_a_confirmation_ended_is_told(
    engine: Callable[..., Engine], reached_at: Times, most: int, told: str
) -> None:
    sweep = engine(reached_at, most=most)
    assert sweep.start().confirmation_ending == told
    assert sweep.start().confirmation_ending == told, "also when nothing is left to do"


def test_a_confirmation_on_a_fixed_number_of_seeds_needs_no_reason(engine: Callable[..., Engine]) -> None:
    sweep = engine(CLEAR)
    sweep.spec = SweepSpec.model_validate({**sweep.spec.model_dump(mode="json"), "confirm": {"top": 1, "seeds": 4}})
    assert sweep.start().confirmation_ending == ""
