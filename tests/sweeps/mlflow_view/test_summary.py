"""What MLflow shows of a sweep as a whole."""

from __future__ import annotations

import json
import math
from typing import Any

from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from kdas.files.record import write_record
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.summary import answer_metrics, description, sweep_parameters, sweep_tags
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job


def row(method: str, ratio: float | None = None) -> dict[str, Any]:
    return {
        "method": method, "configuration": "defaults", "config_id": "c", "is_reference": ratio is None,
        "num_trials": 2, "num_reached": 1, "num_tuned": 0, "mean_lower_s": 1.0, "mean_upper_s": 2.5,
        "ratio": ratio, "ratio_low": ratio, "ratio_high": None, "tuned": "fixed", "time_text": "2.50",
        "ratio_text": "[0.50, ∞] <= 0.60x",
    }  # fmt: skip


ANSWER = {"verdict": "a_b was *fastest*.", "phase": "confirm", "setting": row("kdas", 0.6)}
ANSWER |= {"cautions": ["Only <3 seeds.", "Busy."]}
ANSWER |= {"methods": [row("plain_kd"), row("kdas (mine)", 0.6)]}


def parent(database: str, directory: SweepDirectory) -> Run:
    return MlflowClient(database).get_run(TrackingState(directory).facts["parent"])


def write_answer(directory: SweepDirectory, **changes: Any) -> None:
    (directory.path / "answer.json").write_text(json.dumps(ANSWER | changes), encoding="utf-8")


def test_metrics_of_the_answer_leave_out_what_has_no_bound() -> None:
    assert answer_metrics(ANSWER) == {
        "answer/ratio": 0.6,
        "answer/ratio_low": 0.6,
        "tta_ref_s/plain_kd": 2.5,
        "tta_ref_s/kdas _mine_": 2.5,
    }


def test_parameters_are_what_never_changes_and_tags_what_may_change(spec: SweepSpec) -> None:
    content = spec.model_dump(mode="json")
    found = sweep_parameters(content)
    assert found["student"] == "resnet8" and found["warm_start.sweeps"] == "[]"
    changing = {"seeds", "budget", "confirm", "resources", "data_workers", "search"}
    assert not {key.partition(".")[0] for key in found} & changing and "warm_start.taken" not in found
    tags = sweep_tags(content)
    assert tags["kdas.seeds"] == "[1, 2]" and tags["kdas.search.start_rate"] == "0.3 to 0.9"
    assert tags["kdas.search.sampling_period"] == "[[1, 3, 5, 10], 1, 3]"


def test_description_holds_the_verdict_the_methods_and_the_links() -> None:
    text = description("mine", ANSWER, {"curves": "#/curves"})
    assert text.startswith("**a\\_b was \\*fastest\\*.**\n\n> Only \\<3 seeds.\n\n> Busy.\n\n")
    assert "| ratio to plain\\_kd [95%] |" in text
    assert "| kdas (mine) | defaults | fixed | 2.50 | 1/2 | \\[0.50, ∞\\] \\<= 0.60x |" in text
    assert "](#/curves)" in text and "finalists" not in text and "make report NAME=mine" in text
    assert description("mine", None, {}).startswith("No report yet.")


def test_a_long_table_of_methods_ends_with_what_is_left_out() -> None:
    text = description("mine", ANSWER | {"methods": [row(f"m{number}") for number in range(17)]}, {})
    assert "| m14 |" in text and "| m15 |" not in text and "Not shown: 2 of 17 methods." in text


def test_a_description_that_is_too_long_leaves_out_methods_and_no_link() -> None:
    methods = [row(f"m{number}") | {"configuration": "start_rate 0.6 · " * 20} for number in range(9)]
    text = description("mine", ANSWER | {"methods": methods}, {"finalists": f"#/{'x' * 2000}"})
    assert len(text) <= 5000 and "| m0 |" in text and "| m8 |" not in text and "Not shown:" in text
    assert text.endswith("`make report NAME=mine`.")


def test_the_parent_run_has_parameters_data_answer_and_description(
    database: str, directory: SweepDirectory, jobs: list[Job], spec: SweepSpec
) -> None:
    keep_spec(spec, directory)
    write_record(directory.environment_file, {"data_hash": "abc", "data_source": "bundled"})
    MlflowView(directory).update()
    run = parent(database, directory)
    assert run.data.params["student"] == "resnet8" and len(run.inputs.dataset_inputs) == 1
    assert run.data.tags["mlflow.note.content"].startswith("No report yet.")
    write_answer(directory)
    MlflowView(directory).sync()
    run = parent(database, directory)
    assert run.data.metrics["answer/ratio"] == 0.6 and run.data.metrics["tta_ref_s/plain_kd"] == 2.5
    assert run.data.tags["mlflow.note.content"].startswith("**a")
    assert "answer.json" in {item.path for item in MlflowClient(database).list_artifacts(run.info.run_id)}


def test_a_bound_that_a_later_answer_lacks_is_no_longer_shown_as_a_number(
    database: str, directory: SweepDirectory, jobs: list[Job]
) -> None:
    write_answer(directory)
    MlflowView(directory).sync()
    write_answer(directory, setting=None)
    MlflowView(directory).sync()
    assert math.isnan(parent(database, directory).data.metrics["answer/ratio"])


def test_an_extended_sweep_keeps_its_parameters_and_shows_its_new_seeds(
    database: str, directory: SweepDirectory, jobs: list[Job], spec: SweepSpec
) -> None:
    keep_spec(spec, directory)
    MlflowView(directory).update()
    keep_spec(spec.model_copy(update={"seeds": [1, 2, 3], "epochs": 4}), directory)
    MlflowView(directory).update()
    run = parent(database, directory)
    assert run.data.tags["kdas.seeds"] == "[1, 2, 3]"
    assert run.data.params["epochs"] == "3"


def test_an_unreadable_answer_is_as_none(database: str, directory: SweepDirectory, jobs: list[Job]) -> None:
    for content in ("{", "[]", "{}"):
        (directory.path / "answer.json").write_text(content)
        MlflowView(directory).sync()
        assert parent(database, directory).data.tags["mlflow.note.content"].startswith("No report yet.")
