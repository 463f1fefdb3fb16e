"""Kept students are logged models of their trials' runs, each once, and are registered when that is asked for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import mlflow.pyfunc
import mlflow.pytorch
import pytest
import torch
from mlflow.tracking import MlflowClient

import kdas
from kdas.errors import UserError
from kdas.files.journal import Journal
from kdas.files.record import read_record
from kdas.students.about import write_about
from sweeps.mlflow_view.address import EXPERIMENT
from sweeps.mlflow_view.models import best_of_methods
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import register
from sweeps.record.directory import SweepDirectory
from sweeps.record.export import best_student
from sweeps.record.students import kept_students
from tests.sweeps.conftest import Swept
from tests.sweeps.mlflow_view.conftest import sync


@pytest.fixture
def uri(swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of its own for a copy of the finished sweep."""
    shutil.copytree(swept.directory.path, tmp_path / "tiny")
    (tmp_path / "tiny" / "tracking.journal").unlink()
    (tmp_path / "tiny" / "tracking.id").unlink()
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def copy(uri: str, tmp_path: Path) -> SweepDirectory:
    return SweepDirectory(tmp_path / "tiny")


def models_by_trial(uri: str) -> dict[str, list[str]]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    runs = [run for run in client.search_runs([experiment]) if "kdas.trial_id" in run.data.tags]
    found = {}
    for run in runs:
        outputs = client.get_run(run.info.run_id).outputs
        models = [each.model_id for each in outputs.model_outputs] if outputs else []
        if models:
            found[run.data.tags["kdas.trial_id"]] = models
    return found


def logged(uri: str) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT).experiment_id
    return [model.model_id for model in client.search_logged_models([experiment])]


def test_every_kept_student_is_a_model_of_its_run_once(uri: str, copy: SweepDirectory, tmp_path: Path) -> None:
    assert sync(copy) == ""
    students = {kept.about.trial_id: kept for kept in kept_students(copy)}
    found = models_by_trial(uri)
    assert set(found) == set(students) and {len(models) for models in found.values()} == {1}
    assert sync(copy) == "" and models_by_trial(uri) == found
    # Nor if the record is lost.
    Journal(copy.tracking_file).path.unlink()
    assert sync(copy) == "" and models_by_trial(uri) == found and len(logged(uri)) == len(students)
    files = [file for file in (tmp_path / "mlflow-artifacts").rglob("*") if file.is_file()]
    assert [file for file in files if file.suffix == ".pt2"]
    assert not [file for file in files if file.suffix in (".pkl", ".pickle", ".pth", ".pt")]


@pytest.mark.parametrize("killed_before", ["log_model_artifacts", "finalize_logged_model", "log_outputs", "record"])
def test_a_kill_while_a_model_is_sent_leaves_one_model(
    uri: str, copy: SweepDirectory, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    students = list(kept_students(copy))
    for kept in students[1:]:
        shutil.rmtree(kept.path)
    original = TrackingState.record

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def record(self: TrackingState, **facts: object) -> None:
        return killed() if "models" in facts else original(self, **facts)

    with monkeypatch.context() as patch:
        if killed_before == "record":
            patch.setattr(TrackingState, "record", record)
        else:
            patch.setattr(MlflowClient, killed_before, killed)
        with pytest.raises(KeyboardInterrupt):
            sync(copy)
    assert len(logged(uri)) == 1
    assert sync(copy) == ""
    (model,) = logged(uri)
    assert models_by_trial(uri) == {students[0].about.trial_id: [model]}
    assert MlflowClient(uri).get_logged_model(model).status == "READY"


def test_a_run_that_was_deleted_gets_its_model_again(uri: str, copy: SweepDirectory) -> None:
    assert sync(copy) == ""
    trial_id, before = next(iter(models_by_trial(uri).items()))
    MlflowClient(uri).delete_run(TrackingState(copy).trials[trial_id].run)
    assert sync(copy) == ""
    after = models_by_trial(uri)
    assert len(after[trial_id]) == 1 and after[trial_id] != before


def test_registered_students_load_and_answer_as_the_kept_ones(uri: str, copy: SweepDirectory) -> None:
    assert sync(copy) == ""
    told = register(copy, "of-tiny")
    assert register(copy, "of-tiny") == told  # no second version
    aliases = {line.split()[0].partition("@")[2] for line in told}
    assert aliases == {"kdas_paper", "kdas_search", "plain_kd", "rs2", "best"}
    client, facts = MlflowClient(uri), read_record(copy.environment_file, remedy="")
    for _, kept in best_of_methods(copy):
        alias = kept.about.sweep["method"]
        version = client.get_model_version_by_alias("of-tiny", alias)
        assert f"distilled from resnet8 by {alias} (" in version.description
        assert f"`make reproduce NAME=tiny TRIAL={kept.about.trial_id}`" in version.description
        assert version.tags["kdas.trial_id"] == kept.about.trial_id and version.tags["kdas.sweep"] == "tiny"
        assert float(version.tags["kdas.val_accuracy"]) == kept.about.best["val_accuracy"]
        assert version.tags["kdas.weights_hash"] == kept.about.files["model.safetensors"]
        assert version.tags["kdas.data_hash"] == facts["data_hash"]
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        for alias, kept in [*best_of_methods(copy), ("best", best_student(copy))]:
            expected = kdas.load_student(kept.path)(images).detach()
            network = mlflow.pytorch.load_model(f"models:/of-tiny@{alias}")
            assert torch.allclose(network(images).detach(), expected, rtol=0, atol=1e-5)
        answers = mlflow.pyfunc.load_model("models:/of-tiny@best").predict(images.numpy())
        assert torch.allclose(torch.from_numpy(answers), expected, rtol=0, atol=1e-5)
    finally:
        mlflow.set_tracking_uri(before)


def test_methods_of_any_name_are_sent_and_registered(
    uri: str, copy: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses some of these names for models, and all of them as aliases."""
    renamed = {"plain_kd": "v1", "rs2": "RS2 (r=.5)", "kdas_paper": "best", "kdas_search": "a.b"}
    for number, kept in enumerate(kept_students(copy)):
        if kept.seed != 1 or kept.method not in renamed:
            shutil.rmtree(kept.path)
            continue
        sweep = {**kept.about.sweep, "method": renamed[kept.method]}
        write_about(kept.path, replace(kept.about, sweep=sweep))
        kept.path.rename(kept.path.with_name(f"a.b {number}"))
    assert sync(copy) == "" and len(logged(uri)) == len(list(kept_students(copy)))
    told = register(copy, "of-tiny")
    assert register(copy, "of-tiny") == told
    found = {line.split()[0].partition("@")[2] for line in told}
    assert found - {"best"} == {"method-v1", "RS2--r--5-", "method-best", "a-b"}


def test_a_name_that_mlflow_refuses_is_one_line(uri: str, copy: SweepDirectory) -> None:
    for kept in list(kept_students(copy))[1:]:
        shutil.rmtree(kept.path)
    assert sync(copy) == ""
    with pytest.raises(UserError, match=r"^REGISTER=a/b: [^\n]*'a/b'[^\n]* Give another name\.$"):
        register(copy, "a/b")


def test_a_network_that_cannot_be_exported_is_left_out(
    uri: str, copy: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = next(kept_students(copy))
    original = kdas.load_student

    def load(path: Path, **options: bool) -> object:
        if path == first.path:
            raise RuntimeError("branches on its images")
        return original(path, **options)

    monkeypatch.setattr("kdas.students.student.load_student", load)
    assert sync(copy) == ""
    assert set(models_by_trial(uri)) == {kept.about.trial_id for kept in kept_students(copy)} - {first.about.trial_id}


def test_without_students_nothing_can_be_registered(uri: str, copy: SweepDirectory) -> None:
    shutil.rmtree(copy.students)
    assert sync(copy) == "" and models_by_trial(uri) == {}
    with pytest.raises(UserError, match=r"REGISTER=mine: no student of tiny is in MLflow"):
        register(copy, "mine")
