"""The engine on a simulated clock: what it stops, confirms and spends, even if it is killed and restarted."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from kdas.records import Measure, Status, is_searched
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.engine.spending import Spending
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of, rule_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure
from sweeps.record.paths import CONFIRM
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve
from sweeps.replay.replay import Replay, SimulatedClock
from tests.sweeps.conftest import curve_row, search_of, searches_in

TAU_S = 10.0
TARGET = 0.9
NUM_ROWS = 10


def reached_after_s(job: Job) -> int:
    """Made up: the time to the target depends on the configuration's rate and, a little, on the seed."""
    rate = job.config.sampler.get("start_rate", 1.0)
    draw = random.Random(f"{rate} {job.config.seed}")
    return round(2 + 12 * abs(rate - 0.5) + draw.choice([0, 1]))


def curve_of(job: Job) -> Curve:
    rows = []
    for number in range(1, NUM_ROWS + 1):
        accuracy = 0.95 if number >= reached_after_s(job) else 0.5 + 0.01 * number
        rows.append(Recorded(curve_row(job, number, accuracy), [["step", 64, number]], 1000.0 + number))
    return Curve(rows, Status.BUDGET)


@dataclass
class Engine:
    """A sweep in a folder that can be started again and again."""

    spec: SweepSpec
    directory: SweepDirectory
    slots: int = 2
    clock: SimulatedClock = field(default_factory=SimulatedClock)
    started: list[Job] = field(default_factory=list)
    truth: Callable[[Job], Curve] = curve_of
    plain_methods: tuple[str, ...] = ()

    def start(self, stop_after: int = 10**9) -> Agenda:
        """Run to the end, or until `stop_after` trials have started. Running trials are then lost, as in a kill."""
        measure = Measure(
            "x", TARGET, "given", TAU_S, "plain_kd", "validation", "by-hand", "digits", tuple(self.spec.seeds), 9
        )
        before = read_measure(self.directory)
        if before is not None:
            measure = replace(before, seeds=measure.seeds)
        measure = replace(measure, plain_methods=self.plain_methods)
        objective = objective_of(self.spec.objective, TAU_S)
        terms = Terms(measure, lambda plain: measure, partial(rule_of, self.spec), objective)
        search = searches_in(self.directory, self.spec)
        spending = Spending(self.spec.budget, 0.5, self.directory.spent_file, self.clock)
        adopt = self._is_complete
        agenda = Agenda(plan_of(self.spec), self.directory, search, terms, spending, adopt)
        replay = Replay(agenda, self.directory, self._watched(stop_after), self.slots, self.clock)
        with suppress(KilledError):
            replay.run()
        return agenda

    def _is_complete(self, job: Job) -> bool:
        return self.directory.trial(job.trial_id).status in (Status.BUDGET, Status.REACHED)

    def _watched(self, stop_after: int) -> Callable[[Job], Curve]:
        def watched(job: Job) -> Curve:
            if len(self.started) >= stop_after:
                raise KilledError
            self.started.append(job)
            return self.truth(job)

        return watched

    def spent_s(self) -> float:
        """Total cost of the trials."""
        curves = [folder.rows() for folder in self.directory.trials()]
        return sum(rows[-1].row.cost_ref_s for rows in curves if rows)

    def statuses(self) -> dict[str, Status]:
        return {folder.path.name: folder.status for folder in self.directory.trials()}

    def means_s(self) -> dict[str, float]:
        """The true mean time to the target of every searched configuration that was started."""
        jobs = {job.config_id: job for job in self.started if is_searched(job.method) and job.phase != CONFIRM}
        return {
            config_id: statistics.fmean(
                min(reached_after_s(replace(job, config=job.config.model_copy(update={"seed": seed}))), TAU_S)
                for seed in self.spec.seeds
            )
            for config_id, job in jobs.items()
        }


class KilledError(Exception):
    """Simulates a killed process."""


@pytest.fixture
def engine(spec: SweepSpec, directory: SweepDirectory) -> Callable[..., Engine]:
    def build(**changed: object) -> Engine:
        content = {
            **spec.model_dump(mode="json"),
            "known_points": [],
            "search": {"start_rate": {"low": 0.1, "high": 0.95}},
            "algorithm": "random",
            "seeds": 3,
            "scheduler": "capping",
            "budget": {"configurations": 12},
            **changed,
        }
        return Engine(SweepSpec.model_validate(content), directory)

    return build


def test_capping_spends_less_and_finds_the_same_winner(engine: Callable[..., Engine]) -> None:
    capped = engine()
    capped.start()
    statuses = capped.statuses()
    assert Status.CAPPED in statuses.values()
    means = capped.means_s()
    best = min(means.values())
    for job in capped.started:
        if is_searched(job.method) and means[job.config_id] == best:
            assert statuses[job.trial_id] is Status.BUDGET
        elif not is_searched(job.method):
            assert statuses[job.trial_id] is Status.BUDGET, "baselines run to their end"
    num_whole = sum(status is Status.BUDGET for status in statuses.values())
    assert capped.spent_s() < TAU_S * len(statuses)
    assert num_whole < len(statuses)


def test_a_beaten_configuration_does_not_start_its_other_trials(engine: Callable[..., Engine]) -> None:
    one_by_one = engine()
    one_by_one.slots = 1
    one_by_one.start()
    begun = {job.trial_id for job in one_by_one.started}
    never = {trial_id for trial_id in one_by_one.statuses() if trial_id not in begun}
    assert never
    for trial_id in never:
        folder = one_by_one.directory.trial(trial_id)
        assert folder.status is Status.CAPPED
        assert folder.rows() == []


@pytest.mark.parametrize("scheduler", ["none", "capping", "asha", "median"])
@pytest.mark.parametrize("kills", [[3], [5, 9, 14], [1, 2, 3, 4, 20]])
def test_a_killed_sweep_runs_every_seed_and_then_has_nothing_left_to_train(
    engine: Callable[..., Engine], scheduler: str, kills: list[int]
) -> None:
    confirm = {"top": 2, "seeds": 2}
    killed = engine(scheduler=scheduler, confirm=confirm)
    for number in kills:
        killed.start(stop_after=number)
    killed.start()
    complete_before = {trial_id for trial_id, status in killed.statuses().items() if status is Status.BUDGET}
    count = len(killed.started)
    assert killed.start().is_finished
    assert len(killed.started) == count, "nothing is left to train"
    assert {t for t, s in killed.statuses().items() if s is Status.BUDGET} == complete_before
    # Each searched configuration has a folder for each seed, however its trial ended.
    searched = [folder for folder in killed.directory.trials() if is_searched(folder.description["method"])]
    configs = [f.description["config_id"] for f in searched if f.description["phase"] == "search"]
    assert len(set(configs)) == 12
    assert all(configs.count(config_id) == 3 for config_id in configs)


def test_the_best_are_confirmed_with_all_baselines_on_fresh_seeds(engine: Callable[..., Engine]) -> None:
    sweep = engine(confirm={"top": 2, "seeds": 4})
    sweep.start()
    confirmed = [job for job in sweep.started if job.phase == CONFIRM]
    assert {job.config.seed for job in confirmed} == {1001, 1002, 1003, 1004}
    means = sweep.means_s()
    finalists = {job.config_id for job in confirmed if is_searched(job.method)}
    assert len(finalists) == 2
    assert sorted(means[config_id] for config_id in finalists) == sorted(means.values())[:2]
    assert {job.method for job in confirmed if not is_searched(job.method)} == {"plain_kd", "rs2", "kdas_paper"}
    assert all(sweep.directory.trial(job.trial_id).status is Status.BUDGET for job in confirmed)
    measure = read_measure(sweep.directory)
    assert measure is not None and measure.confirm_seeds == (1001, 1002, 1003, 1004)
    assert set(measure.confirm_configs) == {job.config_id for job in confirmed}


def test_more_seeds_revive_what_was_capped_where_the_bounds_loosen(engine: Callable[..., Engine]) -> None:
    sweep = engine()
    sweep.start()
    before = len(sweep.started)
    more = engine(seeds=5)
    more.started = sweep.started
    more.start()
    means = more.means_s()
    best = min(means, key=means.__getitem__)
    for seed in range(1, 6):
        assert more.directory.trial(f"{best}-s{seed}").status is Status.BUDGET
    assert len(more.started) > before
    complete = [job.trial_id for job in more.started[before:]]
    assert len(complete) == len(set(complete))


def test_hours_end_the_search_and_not_the_baselines(engine: Callable[..., Engine]) -> None:
    hours = 75 / 3600
    sweep = engine(budget={"configurations": 99, "wall_hours": hours}, scheduler="none", confirm={"top": 1, "seeds": 1})
    agenda = sweep.start()
    assert agenda.is_finished
    searched = [job for job in sweep.started if is_searched(job.method) and job.phase != CONFIRM]
    # Nine baseline trials take 50 s on two slots; then two at a time until 75 s.
    assert 4 <= len(searched) <= 8
    assert {folder.status for folder in sweep.directory.trials()} == {Status.BUDGET}
    assert any(job.phase == CONFIRM for job in sweep.started)


def test_trials_that_run_when_hours_are_spent_can_be_paused_and_resumed_later(engine: Callable[..., Engine]) -> None:
    short = {"configurations": 4, "wall_hours": 57 / 3600, "when_spent": "checkpoint"}
    sweep = engine(budget=short, scheduler="none")
    assert sweep.start().is_finished
    aside = [trial_id for trial_id, status in sweep.statuses().items() if status is Status.RUNNING]
    assert len(aside) == 2
    longer = engine(budget={**short, "wall_hours": 1}, scheduler="none")
    longer.clock.now_s = sweep.clock.now_s
    assert longer.start().is_finished
    assert set(longer.statuses().values()) == {Status.BUDGET}
    assert {job.trial_id for job in longer.started} >= set(aside)


def test_the_search_ends_when_it_has_found_what_was_wanted(engine: Callable[..., Engine]) -> None:
    wanted = {"configurations": 99, "stop_when": {"tta_ref_s_below": 3.0}}
    sweep = engine(budget=wanted, scheduler="none")
    sweep.start()
    means = sweep.means_s()
    assert min(means.values()) < 3.0
    assert len(means) < 40


@pytest.mark.parametrize("objective", ["accuracy", {"name": "accuracy_at_cost", "cost_ref_s": 3.5}, "pareto"])
def test_other_objectives_run_and_confirm(engine: Callable[..., Engine], objective: object) -> None:
    sweep = engine(objective=objective, scheduler="none", confirm={"top": 1, "seeds": 1})
    assert sweep.start().is_finished
    finalist = next(job.config_id for job in sweep.started if job.phase == CONFIRM and is_searched(job.method))
    if isinstance(objective, dict):
        # Only configurations that have reached the target by then have the highest accuracy.
        rows = [folder.rows() for folder in sweep.directory.trials() if folder.path.name.startswith(finalist)]
        assert any(each.row.val_accuracy == 0.95 for curve in rows for each in curve if each.row.cost_ref_s <= 3.5)


@pytest.mark.parametrize("algorithm", ["tpe", "gp", "cmaes", "nsga2", "random"])
def test_a_resumed_search_proposes_what_a_whole_one_does(engine: Callable[..., Engine], algorithm: str) -> None:
    space = {"start_rate": {"low": 0.1, "high": 0.95}, "end_rate": {"low": 0.1, "high": 0.95}}
    changed = {"algorithm": {"name": algorithm, "startup": 4}, "search": space, "seeds": 1, "scheduler": "none"}
    sweep = engine(**changed)
    sweep.slots = 1
    for number in (4, 7, 11):
        sweep.start(stop_after=number)
    sweep.start()
    points = [each.point for each in _search(sweep).asked()]
    whole = Engine(sweep.spec, SweepDirectory(sweep.directory.path.parent / "whole"), slots=1)
    whole.directory.path.mkdir()
    whole.start()
    assert points == [each.point for each in _search(whole).asked()]


def _search(sweep: Engine) -> ConfigurationSearch:
    return search_of(sweep.directory.study_file, sweep.spec)


@pytest.mark.parametrize("algorithm", ["grid", "brute_force"])
def test_every_combination_is_tried_once(engine: Callable[..., Engine], algorithm: str) -> None:
    space = {"start_rate": {"low": 0.3, "high": 0.7, "step": 0.2}, "sampling_period": [1, 3]}
    sweep = engine(algorithm=algorithm, search=space, seeds=1, scheduler="none", budget={"configurations": 50})
    sweep.start()
    tried = [
        (job.config.sampler["start_rate"], str(job.config.sampler["sampling_period"]))
        for job in sweep.started
        if is_searched(job.method)
    ]
    assert len(tried) == len(set(tried)) == 6


def test_no_pickle_lies_in_a_sweep(engine: Callable[..., Engine]) -> None:
    sweep = engine(
        algorithm={"name": "cmaes", "startup": 2},
        seeds=1,
        search={"start_rate": {"low": 0.1, "high": 0.95}, "end_rate": {"low": 0.1, "high": 0.95}},
    )
    sweep.start()
    events = [json.loads(line) for line in sweep.directory.study_file.read_text().splitlines()]
    assert {tuple(event) for event in events} == {("asked", "params", "check"), ("told", "values", "check")}
    values = [value for event in events for value in (event.get("params") or {}).values()]
    assert {type(value) for value in values} == {float}


def finalists_of(sweep: Engine) -> set[str]:
    return {job.config_id for job in sweep.started if job.phase == CONFIRM and is_searched(job.method)}


def the_best(sweep: Engine, number: int) -> list[float]:
    return sorted(sweep.means_s().values())[:number]


@pytest.mark.parametrize(
    "more",
    [
        {"seeds": 5, "confirm": {"top": 2, "seeds": 2}},
        {"seeds": 5, "budget": {"configurations": 14}, "confirm": {"top": 2, "seeds": 2}},
        {"confirm": {"top": 4, "seeds": 1}},
    ],
    ids=["seeds", "seeds and configurations", "finalists"],
)
def test_an_extended_sweep_confirms_the_best_of_all(engine: Callable[..., Engine], more: dict[str, object]) -> None:
    first = engine(confirm=False)
    first.start()
    extended = engine(**more)
    extended.started = first.started
    assert extended.start().is_finished
    means, finalists = extended.means_s(), finalists_of(extended)
    assert extended.spec.confirm is not None
    assert len(finalists) == extended.spec.confirm.top
    assert sorted(means[each] for each in finalists) == the_best(extended, extended.spec.confirm.top)
    count = len(extended.started)
    assert extended.start().is_finished
    assert len(extended.started) == count


def crashing(rate_under: float, after_s: int) -> Callable[[Job], Curve]:
    """Trials with a rate under `rate_under` crash after `after_s` seconds."""

    def truth(job: Job) -> Curve:
        curve = curve_of(job)
        if job.config.sampler.get("start_rate", 1.0) >= rate_under:
            return curve
        return Curve(curve.rows[:after_s], Status.CRASHED)

    return truth


def test_what_has_crashed_is_not_tried_again_in_the_same_start(engine: Callable[..., Engine]) -> None:
    sweep = engine(
        search={"start_rate": [0.2, 0.5, 0.8]}, algorithm="tpe", seeds=1, budget={"configurations": 8}, confirm=False
    )
    sweep.slots, sweep.truth = 1, crashing(0.3, 2)
    assert sweep.start(stop_after=40).is_finished
    tried = [job.trial_id for job in sweep.started]
    assert len(tried) == len(set(tried))
    sweep.start(stop_after=40)
    assert len(sweep.started) == len(tried) + 1, "a new start tries the crashed one again, once, and nothing else"


def test_a_configuration_that_crashes_stops_no_others(engine: Callable[..., Engine]) -> None:
    """The fastest configurations crash before all their seeds have reached the target, so they cannot be chosen."""
    search, confirm = {"start_rate": {"low": 0.45, "high": 0.95}}, {"top": 1, "seeds": 1}
    sweep = engine(search=search, confirm=confirm)
    sweep.truth = crashing(0.6, 1)
    assert sweep.start().is_finished
    alive = {
        config_id: mean
        for config_id, mean in sweep.means_s().items()
        if sweep.directory.trial(f"{config_id}-s1").status is not Status.CRASHED
    }
    assert 0 < len(alive) < len(sweep.means_s())
    assert [alive[each] for each in finalists_of(sweep)] == [min(alive.values())]


def test_what_a_crashed_configuration_had_stopped_comes_back(engine: Callable[..., Engine]) -> None:
    """Rate 0.2 reaches the target after 1 s on two seeds, so its mean is at most 4 s; then its third seed crashes."""
    sweep = engine(search={"start_rate": [0.2, 0.4]}, budget={"configurations": 2}, confirm={"top": 1, "seeds": 1})
    sweep.slots = 9

    def truth(job: Job) -> Curve:
        rate, is_third = job.config.sampler.get("start_rate", 1.0), job.config.seed == 3
        crashes = rate == 0.2 and is_third
        reached_at = {0.2: 99 if is_third else 1, 0.4: 6}.get(rate, 8)
        accuracies = [0.95 if number >= reached_at else 0.5 for number in range(1, NUM_ROWS + 1)]
        rows = [
            Recorded(curve_row(job, number, accuracy), [["step", 64, number]], 1000.0 + number)
            for number, accuracy in enumerate(accuracies, start=1)
        ]
        return Curve(rows[:9] if crashes else rows, Status.CRASHED if crashes else Status.BUDGET)

    sweep.truth = truth
    assert sweep.start().is_finished
    begun = Counter(job.trial_id for job in sweep.started)
    slower = next(job.config_id for job in sweep.started if job.config.sampler.get("start_rate") == 0.4)
    assert [begun[f"{slower}-s{seed}"] for seed in (1, 2, 3)] == [2, 2, 2], "capped after 5 s, then trained again"
    assert finalists_of(sweep) == {slower}
    assert sweep.start().is_finished


def test_a_trial_that_crashes_after_the_target_has_a_time_and_may_be_chosen(engine: Callable[..., Engine]) -> None:
    sweep = engine(confirm={"top": 1, "seeds": 1})
    sweep.truth = crashing(1.0, NUM_ROWS - 1)
    sweep.start()
    means = sweep.means_s()
    assert [means[each] for each in finalists_of(sweep)] == [min(means.values())]


def test_a_success_after_a_crash_is_told(engine: Callable[..., Engine]) -> None:
    sweep = engine(seeds=1, budget={"configurations": 3}, scheduler="none")
    sweep.truth = crashing(1.0, 1)
    sweep.start()
    # Besides three configurations, the first proposal equals the baseline kdas_paper.
    assert [each.has_failed for each in _search(sweep).asked()] == [True] * 4
    sweep.truth = curve_of
    sweep.start()
    assert not any(each.has_failed for each in _search(sweep).asked())


def test_a_baseline_does_not_end_the_search(engine: Callable[..., Engine]) -> None:
    """The first proposal is a baseline, which reaches the target on every seed."""
    papers = {"START_RATE": 0.6}
    wanted = {"configurations": 4, "stop_when": "first_reached"}
    sweep = engine(known_points=[papers], budget=wanted, scheduler="none", confirm={"top": 1, "seeds": 1})
    sweep.start()
    assert finalists_of(sweep)


@pytest.mark.parametrize("scheduler", [{"name": "median", "at_least": 5}, {"name": "asha", "grace": 0.2}])
def test_baselines_do_not_stop_the_search(engine: Callable[..., Engine], scheduler: dict[str, object]) -> None:
    sweep = engine(scheduler=scheduler, search={"start_rate": [0.1]}, budget={"configurations": 1})
    sweep.start()
    assert Status.STOPPED_EARLY not in sweep.statuses().values()


def test_a_space_with_nothing_new_is_not_asked_again_at_every_start(engine: Callable[..., Engine]) -> None:
    sweep = engine(search={"start_rate": [0.2, 0.5]}, seeds=1, budget={"configurations": 8})
    assert sweep.start().is_finished
    journal, count = sweep.directory.study_file.read_bytes(), len(sweep.started)
    assert sweep.start().is_finished
    assert (sweep.directory.study_file.read_bytes(), len(sweep.started)) == (journal, count)


def test_a_stopped_trial_costs_a_pareto_search_its_whole_budget(engine: Callable[..., Engine]) -> None:
    sweep = engine(objective="pareto", scheduler={"name": "median", "at_least": 2, "grace": 0.1}, seeds=1)
    sweep.start()
    told = [json.loads(line) for line in sweep.directory.study_file.read_text().splitlines() if "told" in line]
    assert Status.STOPPED_EARLY in sweep.statuses().values()
    assert {values[1] for each in told if (values := each["values"])} == {TAU_S}
