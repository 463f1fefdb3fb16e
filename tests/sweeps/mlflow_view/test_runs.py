"""One run for each trial, whatever happens to the store, to the record or to an answer."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from kdas.files.journal import Journal
from kdas.records import Status
from sweeps.mlflow_view import embedded
from sweeps.mlflow_view.address import EXPERIMENT
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.tracking.follower import Follower
from tests.sweeps.conftest import curve_row, train_on_paper
from tests.sweeps.mlflow_view.conftest import accuracies, children, sync


def parents(uri: str, directory: SweepDirectory) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    own = f"tags.`kdas.sweep_id` = '{TrackingState(directory).sweep_id}'"
    return [run.info.run_id for run in client.search_runs([experiment], own)]


def runs_of_trials(uri: str, directory: SweepDirectory) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    own = f"tags.`kdas.trial_of` = '{TrackingState(directory).sweep_id}'"
    return sorted(run.data.tags["kdas.trial_id"] for run in client.search_runs([experiment], own))


def is_complete(uri: str, directory: SweepDirectory, *jobs: Job) -> bool:
    """Whether the store has exactly one finished run for each of these jobs, below one finished parent."""
    found, ids = children(uri, directory), sorted(job.trial_id for job in jobs)
    assert parents(uri, directory) == [TrackingState(directory).facts["parent"]]
    assert MlflowClient(uri).get_run(parents(uri, directory)[0]).info.status == "FINISHED"
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert all(accuracies(uri, run) == [0.5, 0.9] for run in found.values())
    assert all(run.data.params["seed"] in ("1", "2") for run in found.values())
    return runs_of_trials(uri, directory) == ids == sorted(found)


def delete_child(client: MlflowClient, directory: SweepDirectory) -> None:
    client.delete_run(next(iter(TrackingState(directory).trials.values())).run)


def delete_parent(client: MlflowClient, directory: SweepDirectory) -> None:
    client.delete_run(TrackingState(directory).facts["parent"])


def delete_experiment(client: MlflowClient, directory: SweepDirectory) -> None:
    client.delete_experiment(TrackingState(directory).facts["experiment"])


DELETIONS = pytest.mark.parametrize("delete", [delete_child, delete_parent, delete_experiment])
Deletion = Callable[[MlflowClient, SweepDirectory], None]


@DELETIONS
def test_what_is_deleted_in_the_page_after_the_end_is_there_again_after_a_report(
    database: str, directory: SweepDirectory, jobs: list[Job], delete: Deletion
) -> None:
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5, 0.9])
    assert sync(directory) == ""
    delete(MlflowClient(database), directory)
    assert sync(directory) == ""
    assert is_complete(database, directory, *jobs[:2])


@DELETIONS
def test_what_is_deleted_in_the_page_in_mid_sweep_is_sent_again(
    database: str, directory: SweepDirectory, jobs: list[Job], delete: Deletion
) -> None:
    view = MlflowView(directory)
    folder = directory.trial(jobs[0].trial_id)
    folder.begin(jobs[0])
    folder.append(curve_row(jobs[0], 1, 0.5), [])
    view.update()
    delete(MlflowClient(database), directory)
    folder.append(curve_row(jobs[0], 2, 0.9), [])
    view.update()
    folder.end(Status.BUDGET)
    train_on_paper(directory, jobs[1], [0.5, 0.9])
    view.update()
    assert sync(directory) == ""
    assert is_complete(database, directory, *jobs[:2])


def test_a_run_deleted_while_its_trial_is_sent_is_replaced_in_the_same_pass(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    terminate, deleted = MlflowClient.set_terminated, []

    def delete_first(client: MlflowClient, run: str, *given: str, **named: int | None) -> None:
        if not deleted:
            deleted.append(run)
            client.delete_run(run)
        terminate(client, run, *given, **named)

    monkeypatch.setattr(MlflowClient, "set_terminated", delete_first)
    view = MlflowView(directory)
    view.update()
    assert children(database, directory)[jobs[0].trial_id].info.status == "FINISHED"


def test_other_deleted_runs_stay_deleted_when_the_experiment_is_created_again(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    client = MlflowClient(database)
    MlflowView(directory).update()
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    others = client.create_run(experiment).info.run_id
    client.delete_experiment(experiment)
    MlflowView(directory).update()
    assert client.get_experiment(experiment).lifecycle_stage == "deleted"
    assert client.get_run(others).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_lost_answer_leaves_no_second_run(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    create, num_created = MlflowClient.create_run, []

    def create_and_lose(client: MlflowClient, *given: str, **named: object) -> object:
        run = create(client, *given, **named)
        num_created.append(run)
        if len(num_created) == lost:
            raise MlflowException("API request failed: Connection aborted")
        return run

    monkeypatch.setattr(MlflowClient, "create_run", create_and_lose)
    monkeypatch.setattr("sweeps.tracking.follower._ATTEMPTS_S", (0.0, 0.0))
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5, 0.9])
    assert sync(directory) == ""
    assert len(num_created) == 3 and is_complete(database, directory, *jobs[:2])


def test_an_orphan_of_an_interrupted_sweep_does_not_look_as_if_it_were_running(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    MlflowView(directory).update()
    view, parent = MlflowView(directory), TrackingState(directory).facts["parent"]
    orphan = MlflowClient(database).create_run(
        TrackingState(directory).facts["experiment"],
        tags={"mlflow.parentRunId": parent, "kdas.trial_id": jobs[1].trial_id},
    )
    view.leave()
    assert [run.info.status for run in children(database, directory).values()] == ["KILLED"]
    assert MlflowClient(database).get_run(orphan.info.run_id).info.lifecycle_stage == "deleted"


def delete(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    file.write_text("")


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:20])


def garble(file: Path) -> None:
    file.write_text(file.read_text().replace('"rows"', '"rose"'))


def lose_a_line(file: Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], *lines[3:]]))


def overwrite(file: Path) -> None:
    file.write_bytes(b'[1]\n"x"\n\xff\x00\n')


@pytest.mark.parametrize("damage", [delete, empty, cut_short, garble, lose_a_line, overwrite])
def test_runs_of_a_lost_record_are_found_again(
    database: str, directory: SweepDirectory, jobs: list[Job], damage: Callable[[Path], None]
) -> None:
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5, 0.9])
    sync(directory)
    before = TrackingState(directory)
    damage(directory.tracking_file)
    assert sync(directory) == "" and is_complete(database, directory, *jobs[:2])
    after = TrackingState(directory)
    assert (after.facts, after.trials) == (before.facts, before.trials)


def test_two_sweeps_of_one_name_on_one_server_have_runs_of_their_own(
    database: str, directory: SweepDirectory, jobs: list[Job], tmp_path: Path
) -> None:
    other = SweepDirectory(tmp_path / "others" / "runs" / "tiny")
    other.path.mkdir(parents=True)
    for each in (directory, other):
        shutil.copy(directory.measure_file, other.path) if each is other else None
        train_on_paper(each, jobs[0], [0.5, 0.9])
        assert sync(each) == ""
    for each in (directory, other):
        assert is_complete(database, each, jobs[0])


@pytest.fixture
def beside(database: str, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all sweeps, with the embedded store."""
    runs = directory.path.parent
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("RUNS_DIR", str(runs))

    def create(path: Path) -> None:
        """A copy, since migrating takes seconds, without the experiment of other tests."""
        shutil.copy(database.removeprefix("sqlite:///"), path)
        with closing(sqlite3.connect(path)) as copy, copy:
            copy.execute("update experiments set name = 'others' where name = ?", (EXPERIMENT,))

    monkeypatch.setattr(embedded, "_create", create)
    return runs


def test_an_embedded_database_that_was_deleted_is_filled_again(
    beside: Path, directory: SweepDirectory, jobs: list[Job]
) -> None:
    uri = f"sqlite:///{beside / 'mlflow.db'}"
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view = MlflowView(directory)
    view.update()
    (beside / "mlflow.db").unlink()
    train_on_paper(directory, jobs[1], [0.5, 0.9])
    view.update()  # in mid-sweep
    assert len(children(uri, directory)) == 2
    tags = MlflowClient(uri).get_experiment_by_name(EXPERIMENT).tags
    assert any(key.startswith("mlflow.sharedViewState.kdas-") for key in tags)
    assert sync(directory) == "" and is_complete(uri, directory, *jobs[:2])
    (beside / "mlflow.db").unlink()
    assert sync(directory) == "" and is_complete(uri, directory, *jobs[:2])


@pytest.mark.parametrize("is_old", [False, True])
def test_a_folder_that_was_moved_takes_its_runs_along(
    beside: Path, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    assert sync(directory) == ""
    before = TrackingState(directory)
    if is_old:
        lines = Journal(directory.tracking_file).read()
        lines[0]["uri"] = f"sqlite:///{beside / 'mlflow.db'}"
        Journal(directory.tracking_file, is_plain=True).replace(lines)
        (directory.path / "tracking.id").unlink()
    moved = SweepDirectory(beside.rename(beside.parent / "moved") / "tiny")
    monkeypatch.setenv("RUNS_DIR", str(moved.path.parent))
    (moved.path / "report.html").write_text("a report")
    assert sync(moved) == ""
    after = TrackingState(moved)
    assert after.trials == before.trials and after.facts["parent"] == before.facts["parent"]
    assert is_complete(f"sqlite:///{moved.path.parent / 'mlflow.db'}", moved, jobs[0])
    assert list((moved.path.parent / "mlflow-artifacts").glob("*/artifacts/report.html"))
    assert not beside.exists()


def test_follower_of_an_interrupted_sweep_leaves_nothing_running_even_if_its_last_pass_fails(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    MlflowView(directory).update()

    def fails(view: MlflowView) -> str:
        raise ConnectionError("refused")

    monkeypatch.setattr(MlflowView, "update", fails)
    follower = Follower(directory, MlflowView)
    follower.start()
    follower.ask_to_stop(sweep_is_finished=False)
    follower.wait()
    assert "refused" in follower.failure
    assert children(database, directory)[jobs[0].trial_id].info.status == "KILLED"
