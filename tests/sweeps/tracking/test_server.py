"""A tracking server with users and passwords, on PostgreSQL: each run and each value once, whatever happens to it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from analysis.curves import load
from analysis.mlflow_store import columns as columns_of_store
from analysis.mlflow_store import load_store
from benchmarks.mlflow_server import ADMIN, PASSWORD, Server, running_server
from kdas.errors import UserError
from kdas.records import Measure, Status
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.tables import write_tables
from sweeps.tracking import follower, trackers
from tests.sweeps.conftest import identify_by, train_on_paper
from tests.sweeps.tracking.losing import Proxy, proxy_before

CURVE = [0.5, 0.7, 0.9]
MEASURE = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", (1, 2), 10)
# After this number of requests no answer is lost.
LOSES_UP_TO = 100


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for the whole module, since it takes half a minute to start."""
    with running_server("fsync=off", num_workers=1) as (server, _):
        yield server


@pytest.fixture
def proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxy_before(server.port) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri_of(ADMIN, PASSWORD, proxy.port))
        monkeypatch.setattr(follower, "_ATTEMPTS_S", (0.0,))
        yield proxy


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> list[Job]:
    write_measure(directory, MEASURE)
    return plan_of(spec, identify_by(inputs)).baselines


@pytest.fixture
def trained(directory: SweepDirectory, jobs: list[Job]) -> list[Job]:
    for job in jobs:
        train_on_paper(directory, job, CURVE)
    return jobs


def sent_at_last(directory: SweepDirectory) -> int:
    """Upload as a driver that is killed after each failure would. Returns: how often it failed."""
    failures: list[str] = []
    while failure := follower.sync(directory, MlflowView)[1]:
        failures.append(failure)
        assert len(failures) <= LOSES_UP_TO, failures[-3:]
    return len(failures)


def runs_of(server: Server, directory: SweepDirectory, experiment: str = "kdas-sweeps") -> tuple[list[Run], list[Run]]:
    """The runs of a sweep that were not deleted: its own, and those of its trials."""
    client = MlflowClient(server.uri)
    found = client.get_experiment_by_name(experiment)
    sweep_id = TrackingState(directory).sweep_id
    own, of_trials = (
        list(client.search_runs([found.experiment_id], f"tags.`{tag}` = '{sweep_id}'", max_results=1000))
        for tag in ("kdas.sweep_id", "kdas.trial_of")
    )
    return own, of_trials


def assert_each_once(server: Server, directory: SweepDirectory, jobs: list[Job]) -> None:
    own, runs = runs_of(server, directory)
    assert [run.info.status for run in own] == ["FINISHED"]
    assert Counter(run.data.tags["kdas.trial_id"] for run in runs) == Counter(job.trial_id for job in jobs)
    assert {(run.info.status, run.data.tags["kdas.status"]) for run in runs} == {("FINISHED", "reached")}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {own[0].info.run_id}
    client = MlflowClient(server.uri)
    for run in runs:
        for name, values in (("val_accuracy", CURVE), ("cost_ref_s", [1.0, 2.0, 3.0]), ("tta_ref_s", [3.0])):
            history = client.get_metric_history(run.info.run_id, name)
            assert [metric.value for metric in history] == values, name
        assert len(run.data.params) > 10 and len(run.inputs.dataset_inputs) <= 1


def test_every_answer_that_is_lost_leaves_each_run_and_value_once(
    server: Server, proxy: Proxy, directory: SweepDirectory, trained: list[Job]
) -> None:
    lost: list[str] = []

    def loses_first_of_each_kind_and_every_seventh(path: str, number: int) -> bool:
        is_first = path not in lost or (path == "runs/create" and lost.count(path) < 3)
        is_lost = number <= LOSES_UP_TO and (is_first or number % 7 == 0)
        lost.extend([path] if is_lost else [])
        return is_lost

    proxy.loses = loses_first_of_each_kind_and_every_seventh
    assert sent_at_last(directory) > 3
    assert {"runs/create", "runs/log-batch", "runs/update", "runs/search"} <= set(lost)
    assert lost.count("runs/create") >= 3
    assert_each_once(server, directory, trained)


def test_a_server_that_is_killed_in_mid_run_and_comes_back_has_each_run_and_value_once(
    server: Server, proxy: Proxy, directory: SweepDirectory, trained: list[Job]
) -> None:
    def kills(path: str, number: int) -> bool:
        if path == "runs/log-batch":
            server.kill()
            proxy.loses = lambda path, number: True
            return True
        return False

    proxy.loses = kills
    view = MlflowView(directory)
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        view.update()
    proxy.loses = lambda path, number: False
    server.start()
    view.update()
    assert sent_at_last(directory) == 0
    assert_each_once(server, directory, trained)


def test_the_same_server_at_another_address_is_sent_nothing_again(
    server: Server, proxy: Proxy, directory: SweepDirectory, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    assert sent_at_last(directory) == 0
    before = TrackingState(directory).trials
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri_of(ADMIN, PASSWORD, proxy.port))
    assert TrackingState(directory).trials == {}
    assert sent_at_last(directory) == 0
    assert not {"runs/create", "runs/update"} & set(proxy.requests)
    assert proxy.requests.count("runs/log-batch") == 1  # the description of the sweep, with its links
    assert TrackingState(directory).trials == before
    assert_each_once(server, directory, trained)


def test_an_experiment_of_the_users_choice_has_runs_of_its_own(
    server: Server, proxy: Proxy, directory: SweepDirectory, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sent_at_last(directory) == 0
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of our group")
    assert sent_at_last(directory) == 0
    own, runs = runs_of(server, directory, "of our group")
    assert len(own) == 1 and len(runs) == len(trained)
    assert_each_once(server, directory, trained)


def test_a_store_in_postgresql_tells_what_the_sweep_directory_tells(
    server: Server, proxy: Proxy, directory: SweepDirectory, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "read back")
    write_tables(directory)
    assert sent_at_last(directory) == 0
    ours = load(directory.path)
    stored = load_store(server.database, experiment="read back")
    for name in ("trial_id", "method", "step", "val_accuracy", "cost_ref_s", "train_loss"):
        pd.testing.assert_series_equal(stored.curves[name], ours[name])
    monkeypatch.setattr(columns_of_store, "_READERS", {})
    by_psycopg = load_store(server.database, experiment="read back")
    pd.testing.assert_frame_equal(stored.curves, by_psycopg.curves)
    pd.testing.assert_frame_equal(stored.trials, by_psycopg.trials)


@pytest.fixture
def user(server: Server, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Creates a user and switches to them. Returns their name."""

    def create(name: str) -> str:
        server.administer("2.0/mlflow/users/create", username=name, password="the-password-of-a-user")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri_of(name, "the-password-of-a-user"))
        return name

    return create


def test_a_user_who_may_only_read_is_told_before_anything_is_computed(
    server: Server, user: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    MlflowClient(server.uri).create_experiment("of others")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of others")
    user("reader")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+: this user may not write to the experiment of others\. Ask"):
        trackers.check()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri_of("reader", "wrong"))
    with pytest.raises(UserError, match="the server refuses this user and password"):
        trackers.check()
    monkeypatch.setenv("KDAS_TRACKING", "tensorboard")
    trackers.check()


def test_an_upload_of_a_user_who_may_only_read_is_told_in_one_line_with_its_remedy(
    server: Server,
    user: Callable[[str], str],
    directory: SweepDirectory,
    trained: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    MlflowClient(server.uri).create_experiment("of some")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "of some")
    user("looker")
    _, failure = follower.sync(directory, MlflowView)
    assert re.fullmatch(
        r"MLFLOW_TRACKING_URI=http://127\.0\.0\.1:\d+: this user may not write to the experiment of some\. Ask .*",
        failure,
    )


def test_a_server_that_does_not_answer_refuses_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    trackers.check()


def test_a_user_who_may_edit_sends_a_sweep_and_removes_surplus_runs(
    server: Server,
    user: Callable[[str], str],
    directory: SweepDirectory,
    trained: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    experiment = MlflowClient(server.uri).create_experiment("shared")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "shared")
    name = user("editor")
    granted = {"resource_type": "experiment", "resource_id": experiment, "permission": "EDIT"}
    server.administer("3.0/mlflow/users/permissions/grant", username=name, **granted)
    trackers.check()
    MlflowView(directory).update()
    state = TrackingState(directory)
    # As a server creates it whose answer came too late.
    tags = {"mlflow.parentRunId": state.facts["parent"], "kdas.trial_of": state.sweep_id}
    MlflowClient(server.uri).create_run(experiment, tags={**tags, "kdas.trial_id": trained[0].trial_id})
    assert sent_at_last(directory) == 0
    own, runs = runs_of(server, directory, "shared")
    assert len(own) == 1 and Counter(run.data.tags["kdas.trial_id"] for run in runs) == Counter(
        job.trial_id for job in trained
    )


def test_trials_that_end_while_a_sweep_runs_are_followed(
    server: Server, proxy: Proxy, directory: SweepDirectory, jobs: list[Job]
) -> None:
    running = directory.trial(jobs[0].trial_id)
    running.begin(jobs[0])
    with follower.followed(directory, lambda: True, lambda line: None, lambda: True):
        for job in jobs[1:]:
            train_on_paper(directory, job, CURVE)
    running.end(Status.BUDGET)
    assert {run.info.status for run in runs_of(server, directory)[1]} == {"FINISHED", "RUNNING"}
    before = len(proxy.requests)
    view = MlflowView(directory)
    view.update()
    assert len(proxy.requests) > before
    before = len(proxy.requests)
    view.update()
    assert len(proxy.requests) == before, "nothing is new, so the server is asked nothing"
