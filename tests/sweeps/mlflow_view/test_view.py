from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from kdas.records import Measure, Status
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view.follower import Follower, pause_s
from sweeps.mlflow_view.state import Sent, TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory, TrialFolder
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from tests.sweeps.conftest import curve_row, identify_by, train_on_paper


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests of this file: making one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def tracking(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> list[Job]:
    measure = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", [1, 2], 10)
    write_measure(directory, measure)
    return plan_of(spec, identify_by(inputs)).baselines


def children(database: str, directory: SweepDirectory) -> dict[str, Run]:
    client = MlflowClient(database)
    parent = TrackingState(directory).facts["parent"]
    experiment = client.get_experiment_by_name("kdas-sweeps")
    found = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.data.tags["kdas.trial_id"]: run for run in found}


def accuracies(database: str, run: Run) -> list[float]:
    history = MlflowClient(database).get_metric_history(run.info.run_id, "val_accuracy")
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def test_rows_are_sent_once_however_often_the_view_is_brought_up_to_date(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    folder = directory.trial(jobs[0].trial_id)
    folder.begin(jobs[0])
    folder.append(curve_row(jobs[0], 1, 0.5), [])
    view = MlflowView(directory)
    view.update()
    view.update()
    folder.append(curve_row(jobs[0], 2, 0.9), [])
    MlflowView(directory).update()  # as after a restart
    run = children(database, directory)[jobs[0].trial_id]
    assert run.info.status == "RUNNING"
    assert accuracies(database, run) == [0.5, 0.9]
    folder.end(Status.BUDGET)
    view = MlflowView(directory)
    view.update()
    run = children(database, directory)[jobs[0].trial_id]
    assert run.info.status == "FINISHED"
    assert run.data.tags["kdas.status"] == "reached"
    assert run.data.metrics["tta_ref_s"] == 2.0
    assert accuracies(database, run) == [0.5, 0.9]


def test_a_missed_target_has_no_time_and_a_status_that_says_so(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    train_on_paper(directory, jobs[0], [0.5])
    train_on_paper(directory, jobs[1], [0.5], Status.CRASHED)
    MlflowView(directory).update()
    runs = children(database, directory)
    assert "tta_ref_s" not in runs[jobs[0].trial_id].data.metrics
    assert runs[jobs[0].trial_id].data.tags["kdas.status"] == "budget"
    assert runs[jobs[1].trial_id].info.status == "FAILED"


def test_no_run_of_a_stopped_sweep_looks_as_if_it_were_under_way(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    train_on_paper(directory, jobs[1], [0.9])
    follower = Follower(directory)
    follower.start()
    follower.stop(sweep_is_finished=False)
    runs = children(database, directory)
    assert follower.failure == ""
    assert runs[jobs[0].trial_id].info.status == "KILLED"
    assert runs[jobs[1].trial_id].info.status == "FINISHED"
    parent = MlflowClient(database).get_run(TrackingState(directory).facts["parent"])
    assert parent.info.status == "KILLED"


def test_a_server_that_is_not_there_is_noted_and_stops_nothing(
    directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train_on_paper(directory, jobs[0], [0.9])
    follower = Follower(directory)
    follower.start()
    follower.stop(sweep_is_finished=True)
    assert "127.0.0.1" in follower.failure


def test_another_server_is_filled_from_the_start(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    MlflowView(directory).update()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    MlflowView(directory).update()
    assert accuracies(other, children(other, directory)[jobs[0].trial_id]) == [0.5, 0.9]


def test_trial_that_was_sent_whole_is_not_read_again(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    rows = TrialFolder.rows
    monkeypatch.setattr(TrialFolder, "rows", lambda folder: read.append(folder.path.name) or rows(folder))
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view = MlflowView(directory)
    view.update()
    directory.trial(jobs[1].trial_id).begin(jobs[1])
    view.update()
    view.update()
    assert read == [jobs[0].trial_id, jobs[1].trial_id]


def test_all_of_a_trial_reaches_the_server_in_two_calls_after_its_run_was_made(
    directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = MlflowView(directory)
    view.update()
    calls: list[str] = []
    for name in ("create_run", "log_batch", "log_metric", "set_terminated", "update_run"):
        call = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient,
            name,
            lambda *given, _name=name, _call=call, **named: calls.append(_name) or _call(*given, **named),
        )
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view.update()
    assert calls == ["create_run", "log_batch", "set_terminated"]


def test_what_was_sent_is_known_after_a_kill_in_the_middle_of_a_line(directory: SweepDirectory) -> None:
    state = TrackingState(directory)
    state.record(parent="p", experiment="e")
    state.keep("a", Sent("1", rows=2))
    written = directory.tracking_file.read_bytes()
    state.keep("a", Sent("1", rows=3))
    assert directory.tracking_file.read_bytes().startswith(written)
    cut_short = directory.tracking_file.read_bytes()[:-5]
    directory.tracking_file.write_bytes(cut_short)
    after = TrackingState(directory)
    assert after.facts["parent"] == "p"
    assert after.trials == {"a": Sent("1", rows=2)}
    after.keep("b", Sent("2", rows=1))
    assert set(TrackingState(directory).trials) == {"a", "b"}


def test_follower_rests_longer_than_it_works() -> None:
    assert pause_s(0.1) == 2.0
    assert pause_s(10.0) == 30.0
