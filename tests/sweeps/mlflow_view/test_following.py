"""The thread that keeps MLflow up to date."""

from __future__ import annotations

import threading

import pytest
from mlflow.tracking import MlflowClient

from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.tracking import follower as module
from sweeps.tracking.follower import Follower, failure_text, pause_s
from tests.sweeps.conftest import train_on_paper
from tests.sweeps.mlflow_view.conftest import children


def test_no_run_of_a_stopped_sweep_looks_as_if_it_were_running(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    train_on_paper(directory, jobs[1], [0.9])
    follower = Follower(directory, MlflowView)
    follower.start()
    follower.ask_to_stop(sweep_is_finished=False)
    follower.wait()
    runs = children(database, directory)
    assert follower.failure == ""
    assert runs[jobs[0].trial_id].info.status == "KILLED"
    assert runs[jobs[1].trial_id].info.status == "FINISHED"
    parent = MlflowClient(database).get_run(TrackingState(directory).facts["parent"])
    assert parent.info.status == "KILLED"


def test_an_unreachable_server_is_noted_and_stops_nothing(
    directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    train_on_paper(directory, jobs[0], [0.9])
    follower = Follower(directory, MlflowView)
    follower.start()
    follower.ask_to_stop(sweep_is_finished=True)
    follower.wait()
    assert "127.0.0.1" in follower.failure


def test_a_tracker_is_not_loaded_before_a_trial_trains_unless_the_sweep_ends(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading MLflow would take the processor from what starts the first trials."""
    made, trains = threading.Event(), threading.Event()

    class Counts:
        def __init__(self, directory: SweepDirectory) -> None:
            made.set()

        def update(self) -> None:
            pass

        leave = sync = update

    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.01)
    follower = Follower(directory, Counts, trains.is_set)  # type: ignore[arg-type]
    follower.start()
    assert not made.wait(0.1)
    trains.set()
    assert made.wait(10)
    follower.ask_to_stop(sweep_is_finished=True)
    follower.wait()
    made.clear()
    ended = Follower(directory, Counts, lambda: False)  # type: ignore[arg-type]
    ended.start()
    ended.ask_to_stop(sweep_is_finished=True)
    ended.wait()
    assert made.is_set() and ended.failure == ""


def test_a_follower_that_is_behind_does_not_rest() -> None:
    assert pause_s(0.5) == 1.5
    assert pause_s(10.0) == 0.0


def test_failure_of_a_server_is_reported_in_one_line() -> None:
    assert failure_text(ConnectionError("refused\nat some length")) == "ConnectionError: refused"


def test_a_pass_that_does_not_end_is_told(directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(module, "_LAST_PASS_S", 0.01)

    class Waits(MlflowView):
        def __init__(self, directory: SweepDirectory) -> None:
            answers.wait()

        update = leave = lambda view: ""

    follower = Follower(directory, Waits)
    follower.start()
    follower.ask_to_stop(sweep_is_finished=False)
    follower.wait()
    assert follower.failure == "no answer within 0.01 s"
    answers.set()
