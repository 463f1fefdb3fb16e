"""MLflow as a view of the sweep directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from kdas.files.record import write_record
from kdas.records import Status
from sweeps.mlflow_view.content import began_at_ms, ended_at_ms
from sweeps.mlflow_view.view import MlflowView
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.trial import Recorded, TrialFolder
from tests.sweeps.conftest import curve_row, train_on_paper
from tests.sweeps.mlflow_view.conftest import accuracies, children


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


def test_a_run_tells_where_its_trial_was_trained(database: str, directory: SweepDirectory, jobs: list[Job]) -> None:
    write_record(directory.environment_file, {"git_commit": "of-the-sweep", "hardware": "a driver"})
    folder = directory.trial(jobs[0].trial_id)
    folder.begin(jobs[0])
    MlflowView(directory).update()
    folder.tell_provenance({"git_commit": "of-the-worker", "hardware": "a worker"})
    train_on_paper(directory, jobs[0], [0.9])
    MlflowView(directory).update()
    tags = children(database, directory)[jobs[0].trial_id].data.tags
    assert (tags["kdas.git_commit"], tags["kdas.hardware"]) == ("of-the-worker", "a worker")


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


def test_trial_that_restarts_while_it_is_sent_is_sent_as_it_had_ended(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_paper(directory, jobs[0], [0.5], Status.CRASHED)
    rows, read = TrialFolder.rows, []

    def rows_and_a_new_start(folder: TrialFolder) -> list[Recorded]:
        found = rows(folder)
        read.append(folder.path.name)
        if len(read) == 2:  # the first time it was read for the time of its beginning
            folder.begin(jobs[0])
        return found

    monkeypatch.setattr(TrialFolder, "rows", rows_and_a_new_start)
    MlflowView(directory).update()
    run = children(database, directory)[jobs[0].trial_id]
    assert (run.data.tags["kdas.status"], run.info.status) == ("crashed", "FAILED")


def test_a_damaged_trial_keeps_no_other_from_being_sent(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    for job in jobs:
        train_on_paper(directory, job, [0.5, 0.9])
    ids = sorted(job.trial_id for job in jobs)
    curve = directory.trial(ids[0]).path / "curve.jsonl"
    curve.write_bytes(curve.read_bytes().replace(b"0.5", b"0.7", 1))
    (directory.trial(ids[1]).path / "trial.json").write_text("{}")
    MlflowView(directory).sync()
    sent = {trial_id for trial_id, run in children(database, directory).items() if accuracies(database, run)}
    assert sent == set(ids[2:])


def test_another_server_is_filled_from_the_start(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    MlflowView(directory).update()
    other = f"sqlite:///{tmp_path / 'other.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", other)
    MlflowView(directory).update()
    assert accuracies(other, children(other, directory)[jobs[0].trial_id]) == [0.5, 0.9]


def test_trial_that_was_sent_completely_is_not_read_again(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    rows = TrialFolder.rows
    monkeypatch.setattr(TrialFolder, "rows", lambda folder: read.append(folder.path.name) or rows(folder))
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view = MlflowView(directory)
    view.update()
    assert set(read) == {jobs[0].trial_id}
    read.clear()
    directory.trial(jobs[1].trial_id).begin(jobs[1])
    view.update()
    view.update()
    assert read == [jobs[1].trial_id]


def test_a_capped_trial_that_is_trained_after_all_is_sent_to_its_end(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    train_on_paper(directory, jobs[0], [0.5], Status.CAPPED)
    view = MlflowView(directory)
    view.update()
    directory.trial(jobs[0].trial_id).replace_rows([])
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view.update()
    run = children(database, directory)[jobs[0].trial_id]
    assert accuracies(database, run) == [0.5, 0.9]
    assert run.data.tags["kdas.status"] == "reached"


def test_data_source_and_short_parameters_are_those_of_the_trial(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    write_record(directory.environment_file, {"data_hash": "abc", "data_source": "bundled", "git_commit": "012"})
    train_on_paper(directory, jobs[0], [0.5])
    for _ in range(2):
        MlflowView(directory).update()
    run = children(database, directory)[jobs[0].trial_id]
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", "abc")
    assert (run.data.tags["mlflow.source.name"], run.data.tags["mlflow.source.git.commit"]) == ("tiny.yaml", "012")
    assert (run.data.params["METHOD"], run.info.run_name) == ("plain_kd", "plain_kd seed=1")
    assert run.data.metrics["tta_or_budget_ref_s"] == 10.0
    (row,) = directory.trial(jobs[0].trial_id).rows()
    assert (run.info.start_time, run.info.end_time) == (began_at_ms([row]), ended_at_ms([row]))


def test_all_of_a_trial_reaches_the_server_in_three_calls_after_its_run_was_made(
    directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(directory.environment_file, {"data_hash": "abc"})
    view = MlflowView(directory)
    view.update()
    calls: list[str] = []
    for name in ("create_run", "log_batch", "log_inputs", "log_metric", "set_terminated", "update_run"):
        call = getattr(MlflowClient, name)
        monkeypatch.setattr(
            MlflowClient,
            name,
            lambda *given, _name=name, _call=call, **named: calls.append(_name) or _call(*given, **named),
        )
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    view.update()
    assert calls == ["create_run", "log_inputs", "log_batch", "set_terminated"]
