"""What Ray is told: which trial to place, which to stop, what happens to a trial that lost its worker."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import TrialScheduler
from ray.tune.utils.object_cache import _ObjectCache
from rich.console import Console

from kdas.records import Status
from kdas.training.trial import Inputs
from sweeps.command import ending
from sweeps.engine.prices import Prices, price_key
from sweeps.engine.slots import Slots
from sweeps.execution.actor import NO_ROOM
from sweeps.execution.progress import Progress
from sweeps.execution.silence import Silence
from sweeps.execution.tune_setup import WarmWorkers
from sweeps.execution.tuning import (
    LOST,
    MEMORY_PATIENCE,
    AgendaScheduler,
    AgendaSearcher,
    Peers,
    TuneCallback,
    _resources,
)
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import CALIBRATION, train_on_paper
from tests.sweeps.engine.test_agenda import TAU_REF_S, agenda_of


class Trial:
    """The part of a Ray trial that the code reads."""

    def __init__(self, trial_id: str, error_file: str | None = None) -> None:
        self.trial_id, self.error_file = trial_id, error_file
        self.config, self.evaluated_params, self.last_result = {"epochs": 3}, {"epochs": 3}, {"val_accuracy": 0.5}
        self.run_metadata = SimpleNamespace(metric_analysis={"val_accuracy": {"max": 0.5}})


@dataclass
class Machines:
    """Those that a sweep may use, and how many trials they hold."""

    num: int = 2
    ids: tuple[str, ...] = ()

    def share(self) -> int:
        return self.num

    def news(self) -> list[str]:
        return []


def searcher_of(
    spec: SweepSpec,
    inputs: Inputs,
    directory: SweepDirectory,
    has_room_for: Callable[[Slots], bool] = lambda slots: True,
    peers: Peers | None = None,
) -> AgendaSearcher:
    prices = Prices({price_key(spec.methods.recipe): CALIBRATION})
    progress = Progress("tiny", 10, TAU_REF_S, 2, Console(force_terminal=False))
    agenda = agenda_of(spec, inputs, directory)
    return AgendaSearcher(
        agenda, directory, prices, TAU_REF_S, Slots(2, 1, 0.0), has_room_for, 2, progress, peers or Machines()
    )


def suggested(searcher: AgendaSearcher, trial_id: str) -> dict[str, Any]:
    config = searcher.suggest(trial_id)
    assert isinstance(config, dict)
    return config


def test_warm_worker_goes_to_the_trial_that_has_none_and_each_trial_is_placed_once(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    scheduler = AgendaScheduler(searcher_of(spec, inputs, directory))
    scheduler.on_trial_add(None, "first")
    assert scheduler.choose_trial_to_run(None) == "first"
    # The worker of the first trial is still starting, and the trial keeps it.
    assert scheduler.choose_trial_to_run(None) is None
    scheduler.on_trial_add(None, "second")
    assert scheduler.choose_trial_to_run(None) == "second"
    assert scheduler.choose_trial_to_run(None) is None


def test_workers_that_have_no_trial_stay_for_the_next_ones(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    """As at the end of a search, where Ray Tune would end all but one, and start others for the confirmation."""
    controller = SimpleNamespace(_actor_cache=_ObjectCache(may_keep_one=True))
    scheduler = AgendaScheduler(searcher_of(spec, inputs, directory), WarmWorkers(2))

    def comes_and_ends(worker: str, cpus: int) -> bool:
        """Whether the worker is kept after the only trial, as `TuneController` decides it."""
        wanted = tune.PlacementGroupFactory([{"CPU": cpus}])
        cache = controller._actor_cache
        cache.increase_max(wanted)
        scheduler.on_trial_add(controller, SimpleNamespace(placement_group_factory=wanted))
        cache.decrease_max(wanted)
        return cache.cache_object(wanted, worker)

    def ended() -> list[str]:
        return list(controller._actor_cache.flush_cached_objects())

    assert comes_and_ends("first", 1) and comes_and_ends("second", 1) and ended() == []
    # The others would hold the resources that a trial waits for.
    assert comes_and_ends("wide", 2) and ended() == ["first", "second"]
    assert comes_and_ends("third", 1) and ended() == ["wide"]


def test_a_lost_worker_s_trial_resumes_with_more_room_but_not_for_ever(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    first = suggested(searcher, "a")
    assert (first["cpus"], first["num_cotenants"]) == (1, 1)
    job = searcher.jobs["a"]
    folder = directory.trial(job.trial_id)
    for again in ("b", "c"):
        searcher.on_trial_complete("a" if again == "b" else "b", error=True)
        assert folder.status is Status.RUNNING
        config = suggested(searcher, again)
        assert searcher.jobs[again].trial_id == job.trial_id
        assert (config["cpus"], config["num_cotenants"]) == (2, 0)
    searcher.on_trial_complete("c", error=True)
    assert folder.status is Status.CRASHED
    assert folder.error == LOST
    assert searcher.jobs["c"].trial_id == job.trial_id
    suggested(searcher, "d")
    assert searcher.jobs["d"].trial_id != job.trial_id


def test_a_trial_that_comes_further_between_losses_is_resumed_each_time(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    suggested(searcher, "0")
    trial_id = searcher.jobs["0"].trial_id
    for number in range(1, 6):
        searcher.stops(str(number - 1), {"cost_ref_s": 0.1 * number, "val_accuracy": 0.1})
        searcher.on_trial_complete(str(number - 1), error=True)
        suggested(searcher, str(number))
        assert searcher.jobs[str(number)].trial_id == trial_id
    # The same evaluation again and again is no progress.
    for number in range(6, 9):
        searcher.stops(str(number - 1), {"cost_ref_s": 0.5, "val_accuracy": 0.1})
        searcher.on_trial_complete(str(number - 1), error=True)
        suggested(searcher, str(number))
    assert directory.trial(trial_id).status is Status.CRASHED


def test_a_trial_outlasts_kills_by_rays_memory_monitor_but_not_for_ever(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    scheduler = AgendaScheduler(searcher)
    suggested(searcher, "0")
    folder = directory.trial(searcher.jobs["0"].trial_id)
    told = directory.path / "error.txt"
    told.write_text("Failure # 1\nTask was killed due to the node running low on memory.\n")
    for number in range(1, 2 * MEMORY_PATIENCE + 2):
        assert folder.status is Status.RUNNING
        scheduler.on_trial_error(None, Trial(str(number - 1), str(told)))
        searcher.on_trial_complete(str(number - 1), error=True)
        suggested(searcher, str(number))
    assert folder.status is Status.CRASHED


def test_a_sweep_runs_no_more_trials_than_its_share_of_the_machine(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    machines = Machines(1)
    searcher = searcher_of(spec, inputs, directory, peers=machines)
    suggested(searcher, "a")
    assert searcher.suggest("b") is None
    machines.num = 2
    suggested(searcher, "b")


def test_a_trial_is_placed_on_machines_that_can_train(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory, peers=Machines(2, ("one", "two")))
    assert _resources(suggested(searcher, "a"))._kwargs == {
        "bundle_label_selector": [{"ray.io/node-id": "in(one,two)"}]
    }
    assert not _resources(suggested(searcher_of(spec, inputs, directory), "a"))._kwargs


def test_a_lost_worker_s_trial_keeps_its_room_where_no_machine_has_more(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory, lambda slots: slots.cpus_per_trial == 1)
    suggested(searcher, "a")
    searcher.on_trial_complete("a", error=True)
    assert suggested(searcher, "b")["cpus"] == 1


def test_what_is_planned_follows_what_the_agenda_still_expects(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    progress = Progress("tiny", 10, TAU_REF_S, 2, Console(quiet=True))
    agenda = agenda_of(spec, inputs, directory)
    prices = Prices({price_key(spec.methods.recipe): CALIBRATION})
    searcher = AgendaSearcher(
        agenda, directory, prices, TAU_REF_S, Slots(2, 1, 0.0), lambda slots: True, 2, progress, Machines()
    )
    callback = TuneCallback(progress, directory, searcher, lambda: None, Silence(1.0))
    for trial_id in ("a", "b"):
        suggested(searcher, trial_id)
    assert progress.num_planned == 10
    for trial_id in ("a", "b"):
        callback.on_trial_start(0, [], Trial(trial_id))
    assert (progress.num_planned, len(progress.running)) == (10, 2)
    train_on_paper(directory, searcher.jobs["a"], [0.3])
    searcher.on_trial_complete("a", {"cost_ref_s": 1.0, "val_accuracy": 0.3})
    ended = Trial("a")
    callback.on_trial_complete(0, [], ended)
    assert (progress.num_planned, progress.num_done) == (10, 1)
    # Ray keeps its trials in memory until the sweep ends, so nothing large may be left on them.
    assert not (ended.config or ended.evaluated_params or ended.last_result or ended.run_metadata.metric_analysis)
    searcher.on_trial_complete("b", error=True)
    callback.on_trial_error(0, [], Trial("b"))
    assert (progress.num_planned, progress.num_done, len(progress.running)) == (10, 1, 0)


def test_an_error_of_the_trial_itself_is_not_tried_again(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    suggested(searcher, "a")
    job = searcher.jobs["a"]
    directory.trial(job.trial_id).end(Status.CRASHED, "ValueError: as told")
    searcher.on_trial_complete("a", error=True)
    suggested(searcher, "b")
    assert searcher.jobs["b"].trial_id != job.trial_id


def test_trials_that_ray_gave_up_are_lost_and_run_again(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    callback = TuneCallback(searcher._progress, directory, searcher, lambda: None, Silence(1.0))
    for trial_id in ("a", "b"):
        suggested(searcher, trial_id)
        callback.on_trial_start(0, [], Trial(trial_id))
    lost = {job.trial_id for job in searcher.jobs.values()}
    callback.lose_all()
    assert searcher.jobs == {}
    assert capsys.readouterr().out.count("its worker was lost; it will resume") == 2
    for trial_id in ("c", "d"):
        suggested(searcher, trial_id)
    assert {job.trial_id for job in searcher.jobs.values()} == lost


def test_what_can_no_longer_win_is_stopped(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> None:
    content = {**spec.model_dump(mode="json"), "scheduler": "capping", "seeds": 1, "known_points": []}
    capped = SweepSpec.model_validate(content)
    searcher = searcher_of(capped, inputs, directory)
    scheduler = AgendaScheduler(searcher)
    searched: list[str] = []
    number = 0
    while len(searched) < 2:
        trial_id = str(number := number + 1)
        suggested(searcher, trial_id)
        job = searcher.jobs[trial_id]
        if not job.method.endswith("_search"):
            train_on_paper(directory, job, [0.3, 0.9])
            searcher.on_trial_complete(trial_id, {"cost_ref_s": 2.0, "val_accuracy": 0.9})
            continue
        searched.append(trial_id)
        if len(searched) == 1:
            result = {"cost_ref_s": 3.0, "val_accuracy": 0.9}
            assert scheduler.on_trial_result(None, Trial(trial_id), result) == TrialScheduler.CONTINUE
            directory.trial(job.trial_id).end(Status.BUDGET)
            searcher.on_trial_complete(trial_id, {"cost_ref_s": 10.0, "val_accuracy": 0.9})
    folder = directory.trial(searcher.jobs[searched[1]].trial_id)
    decided = [
        scheduler.on_trial_result(None, Trial(searched[1]), {"cost_ref_s": cost, "val_accuracy": 0.3})
        for cost in (1.0, 3.0, 3.1)
    ]
    assert decided == [TrialScheduler.CONTINUE, TrialScheduler.CONTINUE, TrialScheduler.STOP]
    searcher.on_trial_complete(searched[1], {"cost_ref_s": 3.1, "val_accuracy": 0.3})
    assert folder.status is Status.CAPPED


def test_a_disk_that_is_nearly_full_holds_trials_back_and_says_so_once(
    spec: SweepSpec,
    inputs: Inputs,
    directory: SweepDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    real = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: real(path)._replace(free=3_000_000))
    assert searcher.suggest("a") is None
    assert searcher.suggest("a") is None
    said = capsys.readouterr().out
    assert said.count("3 MB are free") == 1
    monkeypatch.undo()
    assert isinstance(searcher.suggest("a"), dict)


def test_a_trial_that_waits_for_room_goes_on_and_is_told_of_once(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    suggested(searcher, "a")
    waiting = {"cost_ref_s": 0.0, "val_accuracy": 0.0, NO_ROOM: "/disk/trial"}
    for _ in range(3):
        assert AgendaScheduler(searcher).on_trial_result(None, Trial("a"), waiting) == TrialScheduler.CONTINUE
    assert capsys.readouterr().out.splitlines() == [
        "/disk/trial: the disk is full. Trials wait until there is room. The sweep resumes by itself."
    ]


@pytest.mark.parametrize("waits", ["for 500 MB", "for a record"])
def test_ctrl_c_is_heard_while_the_disk_is_full(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    searcher = searcher_of(spec, inputs, directory)
    monkeypatch.setattr(ending, "_requests", ending._Requests(is_asked=True))
    with pytest.raises(KeyboardInterrupt):
        searcher.suggest("a") if waits == "for 500 MB" else searcher.wait_for_room(directory.path)
