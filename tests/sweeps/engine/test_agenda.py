"""The order of work, with real folders and a real study; the curves are written by hand, not trained."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial

import pytest

from kdas.records import Measure, Status
from kdas.training.trial import Inputs
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.spending import Spending
from sweeps.engine.target import decide_target
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of, rule_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure, write_measure
from tests.sweeps.conftest import CALIBRATION, identify_by, search_of, searches_in, train_on_paper

TAU_REF_S = 10.0


def agenda_of(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, now: Callable[[], float] = lambda: 0.0
) -> Agenda:
    def fix_measure(plain: list[Job]) -> Measure | None:
        decided = decide_target(spec.target, directory, plain, "validation")
        if decided is None:
            return None
        target, rule = decided
        measure = Measure(
            "tiny", target, rule, TAU_REF_S, "plain_kd", "validation", "by-hand", "digits", tuple(spec.seeds), 10
        )
        write_measure(directory, measure)
        return measure

    objective = objective_of(spec.objective, TAU_REF_S)
    terms = Terms(read_measure(directory), fix_measure, partial(rule_of, spec), objective)
    search = searches_in(directory, spec)
    spending = Spending(spec.budget, 0.5, directory.spent_file, now)
    adopt = lambda job: directory.adopt(job, CALIBRATION)  # noqa: E731
    return Agenda(plan_of(spec, identify_by(inputs)), directory, search, terms, spending, adopt, spec.keep_students)


def work_off(
    agenda: Agenda, directory: SweepDirectory, at_once: int = 2, stop_after: int = 10**6, seed: int = 0
) -> list[Job]:
    """Run jobs `at_once` at a time and end them in random order; returns those that were started."""
    draw = random.Random(seed)
    started: list[Job] = []
    running: list[Job] = []
    while True:
        while len(running) < at_once and (job := agenda.next_job()) is not None:
            running.append(job)
            started.append(job)
        if not running or len(started) >= stop_after:
            return started
        job = running.pop(draw.randrange(len(running)))
        rate = job.config.sampler.get("start_rate", 1.0)
        train_on_paper(directory, job, [0.3, 0.9 * rate, 0.9])
        agenda.ended(job)


def test_every_trial_is_started_once(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> None:
    agenda = agenda_of(spec, inputs, directory)
    started = work_off(agenda, directory)
    assert agenda.is_finished
    ids = [job.trial_id for job in started]
    assert len(ids) == len(set(ids)) == 2 * (3 + 2)


def test_plain_distillation_comes_first_and_the_search_waits_for_its_target(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    only_plain = spec.model_copy(update={"baselines": {"plain_kd": spec.baselines["plain_kd"]}})
    agenda = agenda_of(only_plain, inputs, directory)
    plain = [agenda.next_job(), agenda.next_job()]
    assert [job.method for job in plain if job] == ["plain_kd", "plain_kd"]
    assert agenda.next_job() is None
    assert not agenda.is_finished
    for job in plain:
        assert job is not None
        train_on_paper(directory, job, [0.5, 0.9])
        agenda.ended(job)
    measure = read_measure(directory)
    assert measure is not None
    assert measure.target == pytest.approx(0.8 * 0.9)
    searched = agenda.next_job()
    assert searched is not None
    assert searched.method == "kdas_search"


@pytest.mark.parametrize("stop_after", range(1, 11))
def test_a_sweep_stopped_anywhere_ends_with_the_same_number_of_trials(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, stop_after: int
) -> None:
    started = work_off(agenda_of(spec, inputs, directory), directory, stop_after=stop_after, seed=stop_after)
    finished = {job.trial_id for job in started if directory.trial(job.trial_id).is_final}
    again = agenda_of(spec, inputs, directory)
    resumed = work_off(again, directory, seed=stop_after + 1)
    assert again.is_finished
    assert finished.isdisjoint(job.trial_id for job in resumed)
    assert len({folder.path.name for folder in directory.trials()}) == 10
    done = agenda_of(spec, inputs, directory)
    assert not done.fill() and done.is_finished


def test_what_was_confirmed_before_is_not_counted_as_to_come(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    confirmed = SweepSpec.model_validate({**spec.model_dump(), "confirm": {"top": 1, "seeds": [101, 102]}})
    agenda = agenda_of(confirmed, inputs, directory)
    assert agenda.num_to_come == len(work_off(agenda, directory)) == 2 * (3 + 2) + 2 * (3 + 1)
    measure = read_measure(directory)
    assert measure is not None and measure.num_planned_trials == 18
    assert agenda_of(confirmed, inputs, directory).num_to_come == 0
    more = confirmed.model_copy(update={"budget": spec.budget.model_copy(update={"configurations": 3})})
    extended = agenda_of(more, inputs, directory)
    # One more configuration on two seeds; whether it is confirmed is not known yet.
    assert extended.num_to_come == 2
    work_off(extended, directory)
    measure = read_measure(directory)
    assert measure is not None and measure.num_planned_trials == len(list(directory.trials()))


def test_more_seeds_and_configurations_extend_a_finished_sweep(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    work_off(agenda_of(spec, inputs, directory), directory)
    target = read_measure(directory)
    budget = spec.budget.model_copy(update={"configurations": 3})
    more = spec.model_copy(update={"seeds": [1, 2, 7], "budget": budget})
    started = work_off(agenda_of(more, inputs, directory), directory)
    assert sorted(job.config.seed for job in started) == [1, 2, *[7] * 6]
    after = read_measure(directory)
    assert target is not None
    assert after is not None
    assert after.target == target.target


def test_a_crashed_trial_is_run_again_at_the_next_start(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    started = work_off(agenda_of(spec, inputs, directory), directory)
    crashed = started[-1]
    train_on_paper(directory, crashed, [0.2], Status.CRASHED)
    assert [job.trial_id for job in work_off(agenda_of(spec, inputs, directory), directory)] == [crashed.trial_id]


def test_a_space_with_nothing_new_to_offer_ends_the_search(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    search = {"sampling_period": [[1, 3, 5, 10], 1, 3]}
    changed = {"search": search, "known_points": [], "budget": {"configurations": 99}}
    small = SweepSpec.model_validate({**spec.model_dump(mode="json"), **changed})
    agenda = agenda_of(small, inputs, directory)
    started = work_off(agenda, directory)
    assert agenda.is_finished
    # Three choices, one of which is the paper's and therefore a baseline.
    assert len({job.config_id for job in started if job.method == "kdas_search"}) == 2


def test_a_configuration_with_a_crashed_seed_counts_as_failed_in_the_search(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    while (job := agenda.next_job()) is not None:
        crashes = job.method == "kdas_search" and job.config.seed == 1
        train_on_paper(directory, job, [0.1 if crashes else 0.9], Status.CRASHED if crashes else Status.BUDGET)
        agenda.ended(job)
    asked = search_of(directory.study_file, spec).asked()
    assert [(each.is_told, each.has_failed) for each in asked] == [(True, False), (True, True), (True, True)]


@pytest.mark.parametrize(
    ("first", "second"),
    [(Status.CRASHED, Status.BUDGET), (Status.DIVERGED, Status.DIVERGED)],
    ids=["crash", "diverged"],
)
def test_failed_plain_curves_set_no_target_until_a_later_start(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, first: Status, second: Status
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    while (job := agenda.next_job()) is not None:
        status = {1: first, 2: second}[job.config.seed] if job.method == "plain_kd" else Status.BUDGET
        train_on_paper(directory, job, [0.2], status)
        agenda.ended(job)
    assert agenda.is_finished
    assert read_measure(directory) is None
    again = agenda_of(spec, inputs, directory)
    assert again.fill() is (first is not Status.DIVERGED)
    assert again.is_finished is (first is Status.DIVERGED)
    if first is Status.CRASHED:
        again = agenda_of(spec, inputs, directory)
        job = again.next_job()
        assert job is not None
        train_on_paper(directory, job, [0.9], Status.BUDGET)
        again.ended(job)
        measure = read_measure(directory)
        assert measure is not None
        assert measure.target == pytest.approx(0.8 * 0.55)
