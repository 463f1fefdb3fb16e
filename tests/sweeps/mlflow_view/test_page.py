"""The views that are prepared for MLflow's page, and their links."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
from mlflow.tracking import MlflowClient

from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view import page, prepared
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure, write_measure
from tests.sweeps.conftest import train_on_paper
from tests.sweeps.mlflow_view.conftest import children


def opened(database: str, link: str) -> dict[str, Any]:
    """What the page reads of the view that a link opens."""
    path, _, query = link.partition("?")
    given = {key: values[0] for key, values in parse_qs(query).items()}
    assert given["workflowType"] == "machine_learning" and given["compareRunsMode"] == "CHART"
    experiment = MlflowClient(database).get_experiment(path.split("/")[2])
    content = json.loads(experiment.tags[prepared.TAG + given["viewStateShareKey"]])
    view: dict[str, Any] = json.loads(content["state"]) if "state" in content else content
    return view


def links(directory: SweepDirectory) -> dict[str, str]:
    found: dict[str, str] = TrackingState(directory).facts["links"]
    return found


def confirm(directory: SweepDirectory, jobs: list[Job]) -> None:
    """As a sweep that confirms these jobs."""
    measure = read_measure(directory)
    assert measure is not None
    configs, seeds = (tuple(dict.fromkeys(values)) for values in (
        [job.config_id for job in jobs], [job.config.seed for job in jobs],
    ))  # fmt: skip
    write_measure(directory, replace(measure, confirm_configs=configs, confirm_seeds=seeds))


def test_the_experiment_is_shown_as_one_of_training(database: str, directory: SweepDirectory, jobs: list[Job]) -> None:
    MlflowView(directory).update()
    experiment = MlflowClient(database).get_experiment(TrackingState(directory).facts["experiment"])
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"


def test_curves_are_drawn_over_reference_seconds_by_method(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    MlflowView(directory).update()
    view = opened(database, links(directory)["curves"])
    line, bars = view["compareRunCharts"]
    assert (line["metricKey"], line["selectedXAxisMetricKey"]) == ("val_accuracy", "cost_ref_s")
    assert line["lineSmoothness"] == 0 and bars["metricKey"] == "tta_or_budget_ref_s"
    assert view["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "kdas.method"}]
    client, experiment = MlflowClient(database), TrackingState(directory).facts["experiment"]
    shown = client.search_runs([experiment], view["searchFilter"], order_by=[f"{view['orderByKey']} ASC"])
    assert [run.data.tags["kdas.trial_id"] for run in shown] == [jobs[0].trial_id]


def test_the_searched_parameters_are_drawn_against_the_time_to_the_target(
    database: str, directory: SweepDirectory, jobs: list[Job], spec: SweepSpec
) -> None:
    keep_spec(spec, directory)
    MlflowView(directory).update()
    (parallel, _) = opened(database, links(directory)["search"])["compareRunCharts"]
    assert parallel["selectedParams"] == ["START_RATE", "SAMPLING_PERIOD"]
    assert parallel["selectedMetrics"] == ["certain_tta_or_budget_ref_s"]


def test_the_runs_of_the_confirmation_are_compared(database: str, directory: SweepDirectory, jobs: list[Job]) -> None:
    for job in jobs:
        train_on_paper(directory, job, [0.5, 0.9])
    view = MlflowView(directory)
    view.update()
    assert "finalists" not in links(directory)
    confirm(directory, jobs[:2])
    view.update()
    path, _, query = unquote(links(directory)["finalists"]).partition("?")
    runs = children(database, directory)
    expected = {runs[job.trial_id].info.run_id for job in jobs if job.config_id == jobs[0].config_id}
    assert path == "#/compare-runs" and set(json.loads(parse_qs(query)["runs"][0])) >= expected
    assert "'confirm'" in opened(database, links(directory)["curves"])["searchFilter"]


def test_views_are_written_again_only_if_they_changed_or_are_gone(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = MlflowClient.set_experiment_tag

    def noted(client: MlflowClient, experiment: str, key: str, value: str) -> None:
        written.append(key.rpartition("-")[2])
        write(client, experiment, key, value)

    monkeypatch.setattr(MlflowClient, "set_experiment_tag", noted)
    MlflowView(directory).update()
    before = [name for name in written if name == "curves"]
    MlflowView(directory).update()
    assert before == ["curves"] and written.count("curves") == 1
    MlflowClient(database).delete_experiment(TrackingState(directory).facts["experiment"])
    MlflowView(directory).update()
    assert written.count("curves") == 2 and opened(database, links(directory)["curves"])


def test_views_fit_into_a_tag_and_leave_room_for_those_of_the_user(
    database: str, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_MOST_NAMED", 0)
    MlflowView(directory).update()
    tags = MlflowClient(database).get_experiment(TrackingState(directory).facts["experiment"]).tags
    (value,) = (value for key, value in tags.items() if TrackingState(directory).sweep_id[:12] in key)
    assert len(value) < 5000 and "name" not in json.loads(value)
    assert opened(database, links(directory)["curves"])["compareRunCharts"]


def test_parameters_of_mixed_kinds_are_all_text_so_that_no_trial_is_left_out_of_the_chart(spec: SweepSpec) -> None:
    content = spec.model_dump(mode="json")
    assert page.varied_settings(content).mixed == {"sampling_period"}
    baselines = {
        "plain": {"name": "full"},
        "half": {"sampler": {"name": "full"}, "epochs": 0.5, "optimizer": {"nesterov": 1}},
    }
    search = {"penalty_lambda": {"low": 1, "high": 9, "log": True}, "optimizer.nesterov": {"choices": [True, False]}}
    varied = page.varied_settings({"baselines": baselines, "search": search})
    assert varied.names == ("penalty_lambda", "optimizer.nesterov", "epochs") and varied.log == {"penalty_lambda"}
    assert page.searched_parameters({"search": search}) == ["PENALTY_LAMBDA_LOG10", "NESTEROV"]
    assert page.searched_parameters(
        {"baselines": {"tuned": {"search": {"a": {"when": {}}, "b": {"when": {"a": 1}}}}}}
    ) == ["A"]
