from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from kdas.records import Measure
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view import embedded
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.tracking import follower
from tests.sweeps.conftest import identify_by


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One store for all tests in this folder, since it takes seconds to create one."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    embedded.ensure(path)
    return f"sqlite:///{path}"


@pytest.fixture(autouse=True)
def tracking(database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> list[Job]:
    measure = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", [1, 2], 10)
    write_measure(directory, measure)
    return plan_of(spec, identify_by(inputs)).baselines


def sync(directory: SweepDirectory) -> str:
    """Send what MLflow lacks. Returns: what went wrong."""
    return follower.sync(directory, MlflowView)[1]


def children(database: str, directory: SweepDirectory) -> dict[str, Run]:
    client = MlflowClient(database)
    parent = TrackingState(directory).facts["parent"]
    experiment = client.get_experiment_by_name("kdas-sweeps")
    found = client.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'")
    return {run.data.tags["kdas.trial_id"]: run for run in found}


def accuracies(database: str, run: Run) -> list[float]:
    history = MlflowClient(database).get_metric_history(run.info.run_id, "val_accuracy")
    return [metric.value for metric in sorted(history, key=lambda metric: metric.step)]


def described(job: Job, method: str, configuration: str) -> dict[str, Any]:
    """The description of a trial, with another method and configuration in words."""
    config = job.config.model_dump(mode="json") | {"seed": 1}
    known = {"start_rate": 0, "end_rate": 0, "sampling_period": 0, "penalty_lambda": 0, "threshold": 0}
    return {"method": method, "configuration": configuration, "config": config | {"sampler": known}}
