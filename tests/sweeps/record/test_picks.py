"""The file in a trial's folder that counts what the trial trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdas.recipe.config import TrialConfig
from kdas.records import PicksWindow, Status
from kdas.training.trial import Inputs
from sweeps.engine.slots import Slots
from sweeps.execution.actor import TrialActor, ray_config
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.picks import PicksFile
from tests.sweeps.conftest import CALIBRATION, identify_by, train_on_paper
from tests.sweeps.record.conftest import WINDOWS


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs) -> list[Job]:
    return plan_of(spec, identify_by(inputs)).baselines


@pytest.fixture
def picks(tmp_path: Path) -> PicksFile:
    return PicksFile(tmp_path / "picks.jsonl", "")


def windows_in(picks: PicksFile) -> list[PicksWindow]:
    return [PicksWindow(**json.loads(line)) for line in picks.texts()]


def test_windows_come_back_as_they_were_written(picks: PicksFile) -> None:
    picks.append(WINDOWS[:1])
    picks.append([])
    picks.append(WINDOWS[1:])
    assert windows_in(picks) == WINDOWS


def test_a_line_cut_short_by_a_kill_is_left_out_and_then_written_over(picks: PicksFile, tmp_path: Path) -> None:
    picks.append(WINDOWS)
    file = tmp_path / "picks.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert windows_in(picks) == WINDOWS[:2]
    picks.keep(WINDOWS[:2])
    picks.append(WINDOWS[2:])
    assert windows_in(picks) == WINDOWS


def test_windows_that_a_checkpoint_does_not_know_are_dropped(picks: PicksFile) -> None:
    picks.append(WINDOWS)
    picks.keep(WINDOWS[:1])
    assert windows_in(picks) == WINDOWS[:1]
    picks.keep([])
    assert windows_in(picks) == []


def test_a_trial_that_has_trained_nothing_gets_no_file(picks: PicksFile, tmp_path: Path) -> None:
    picks.append([])
    picks.keep([])
    assert windows_in(picks) == [] and not list(tmp_path.iterdir())


def test_a_trial_that_is_taken_over_brings_its_windows_along(directory: SweepDirectory, jobs: list[Job]) -> None:
    other = SweepDirectory(directory.path.parent / "other")
    train_on_paper(other, jobs[0], [0.1], windows=WINDOWS)
    train_on_paper(other, jobs[1], [0.1])
    assert all(directory.adopt(job, CALIBRATION) for job in jobs[:2])
    assert windows_in(directory.trial(jobs[0].trial_id).picks) == WINDOWS
    # The second trial has no windows, as if an earlier version had trained it.
    assert "picks.jsonl" not in {path.name for path in directory.trial(jobs[1].trial_id).path.iterdir()}


def test_a_worker_that_is_killed_leaves_the_windows_of_an_undisturbed_one(
    directory: SweepDirectory, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execution.actor._warm_inputs", lambda recipe: (inputs, 0.0))
    monkeypatch.setattr("kdas.training.trainer.CHECKPOINT_SHARE", 1e9)
    recipe = {"dataset": {"name": "digits"}, "teacher": {"model": "resnet8", "epochs": 1}, "student": "resnet8"}
    config = TrialConfig(**recipe, sampler="kdas", epochs=4, evaluations=9, batch_size=256)

    def worker(in_directory: SweepDirectory) -> TrialActor:
        job = Job("kdas", "search", config, "some-config")
        in_directory.trial(job.trial_id).path.mkdir(parents=True, exist_ok=True)
        actor = object.__new__(TrialActor)  # skips what Ray sets up, which this does not need
        actor.setup(ray_config(job, in_directory, CALIBRATION, 1e6, Slots(1, 1, 0.0)))
        return actor

    def trained_on(actor: TrialActor) -> TrialActor:
        while not actor.step()["done"]:
            pass
        return actor

    whole = trained_on(worker(SweepDirectory(directory.path.parent / "whole")))._folder
    killed = worker(directory)
    while len(windows_in(killed._folder.picks)) < 2:
        killed.step()
    killed._folder.picks.append(WINDOWS)  # as if it had lived on after the checkpoint
    resumed = trained_on(worker(directory))._folder
    assert resumed.status is whole.status is Status.BUDGET
    assert [window.epoch for window in windows_in(whole.picks)] == [1, 2, 3, 4]
    assert windows_in(resumed.picks) == windows_in(whole.picks)
    trained = sum(sum(window.by_class) for window in windows_in(resumed.picks))
    assert trained == resumed.rows()[-1].row.samples_trained


def test_worker_whose_rows_were_lost_trains_from_the_beginning(
    directory: SweepDirectory, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.execution.actor._warm_inputs", lambda recipe: (inputs, 0.0))
    monkeypatch.setattr("kdas.training.trainer.CHECKPOINT_SHARE", 1e9)
    recipe = {"dataset": {"name": "digits"}, "teacher": {"model": "resnet8", "epochs": 1}, "student": "resnet8"}
    job = Job("full", "search", TrialConfig(**recipe, epochs=3, evaluations=9, batch_size=256), "some-config")
    folder = directory.trial(job.trial_id)
    folder.path.mkdir(parents=True)

    def worker() -> TrialActor:
        actor = object.__new__(TrialActor)  # skips what Ray sets up, which this does not need
        actor.setup(ray_config(job, directory, CALIBRATION, 200.0, Slots(1, 1, 0.0)))
        return actor

    killed = worker()
    while not folder.checkpoint.exists():
        killed.step()
    before = folder.rows()
    # A copy that was cut short: the rows are as they were written, and the checkpoint knows of more.
    folder.replace_rows(before[:1])
    resumed = worker()
    while not resumed.step()["done"]:
        pass
    rows = folder.rows()
    assert [row.row.step for row in rows[: len(before)]] == [row.row.step for row in before]
    assert [row.row.val_accuracy for row in rows[: len(before)]] == [row.row.val_accuracy for row in before]
    assert folder.status is Status.BUDGET and rows[-1].row.epoch == 3
