"""What MLflow shows about a trial."""

from __future__ import annotations

import json
from dataclasses import replace

from kdas.records import Measure, Status
from sweeps.mlflow_view.batches import METRICS_PER_CALL
from sweeps.mlflow_view.content import (
    began_at_ms,
    current_time,
    datasets,
    ended_at_ms,
    evaluation_metrics,
    final_metrics,
    final_tags,
    parameters,
    short_parameters,
    source_tags,
)
from sweeps.mlflow_view.names import Varied
from sweeps.record.job import Job
from sweeps.record.trial import Recorded
from tests.sweeps.conftest import curve_row
from tests.sweeps.mlflow_view.conftest import described

MEASURE = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", (1, 2), 10)


def test_metrics_have_their_step_and_time(jobs: list[Job]) -> None:
    metrics = {each.key: each for each in evaluation_metrics([Recorded(curve_row(jobs[0], 3, 0.5), [], 12.5)])}
    accuracy = metrics["val_accuracy"]
    assert (accuracy.value, accuracy.step, accuracy.timestamp) == (0.5, 3, 12500)


def test_240_evaluations_and_the_end_of_a_trial_fit_into_one_request(jobs: list[Job]) -> None:
    alone = (replace(curve_row(jobs[0], number, number / 240), num_cotenants=0) for number in range(1, 241))
    rows = [Recorded(row, [], 1.0) for row in alone]
    metrics = [*current_time(rows, MEASURE), *evaluation_metrics(rows), *final_metrics(Status.BUDGET, rows, MEASURE)]
    assert len(metrics) <= METRICS_PER_CALL == 1000
    assert {each.key for each in evaluation_metrics(rows)} == {
        *("val_accuracy", "test_accuracy", "train_loss", "cost_ref_s")
    }


def test_a_trial_alone_on_its_device_sends_no_count_of_others(jobs: list[Job]) -> None:
    alone = replace(curve_row(jobs[0], 3, 0.5), num_cotenants=0)
    assert "num_cotenants" not in {each.key for each in evaluation_metrics([Recorded(alone, [], 12.5)])}


def test_metrics_that_an_earlier_version_did_not_record_are_not_sent(jobs: list[Job]) -> None:
    row = replace(curve_row(jobs[0], 3, 0.5), test_nll=1.5)
    keys = {each.key: each.value for each in final_metrics(Status.BUDGET, [Recorded(row, [], 12.5)], MEASURE)}
    assert keys["test_nll"] == 1.5 and not {"test_top5", "test_calibration_error", "test_agreement"} & keys.keys()


def test_time_to_the_target_is_that_of_the_first_hit_and_a_miss_has_none(jobs: list[Job]) -> None:
    rows = [Recorded(curve_row(jobs[0], number, each), [], 1.0) for number, each in enumerate([0.5, 0.9], start=1)]
    certain = "certain_tta_or_budget_ref_s"

    def found(status: Status, some: list[Recorded]) -> dict[str, float]:
        sent = final_metrics(status, some, MEASURE)
        return {each.key: each.value for each in sent if each.key in ("tta_ref_s", certain)}

    for status in (Status.BUDGET, Status.CAPPED):
        assert found(status, rows) == {"tta_ref_s": 2.0, certain: 2.0}
    assert found(Status.BUDGET, rows[:1]) == {certain: 10.0}
    # Nobody knows when it would have reached the target.
    assert found(Status.CAPPED, rows[:1]) == {}
    assert final_metrics(Status.CAPPED, [], MEASURE) == []


def test_work_is_sent_at_the_hit_and_at_the_end(jobs: list[Job]) -> None:
    rows = [Recorded(curve_row(jobs[0], number, each), [], 1.0) for number, each in enumerate([0.5, 0.9, 0.9, 0.9], 1)]
    sent = final_metrics(Status.BUDGET, rows, MEASURE)
    assert [each.step for each in sent if each.key == "samples_trained"] == [2, 4]
    sent = final_metrics(Status.BUDGET, rows[:2], MEASURE)
    assert [each.step for each in sent if each.key == "samples_trained"] == [2]


def test_end_of_a_long_error_is_kept(jobs: list[Job]) -> None:
    rows = [Recorded(curve_row(jobs[0], 1, 0.9), [], 1.0)]
    tags = {tag.key: tag.value for tag in final_tags(Status.CRASHED, "a" * 6000 + "the end", rows, MEASURE)}
    assert tags["kdas.status"] == "crashed" and tags["kdas.calibration_id"] == "by-hand"
    assert tags["kdas.error"].endswith("the end") and len(tags["kdas.error"]) == 5000
    assert {tag.key: tag.value for tag in final_tags(Status.BUDGET, "", rows, MEASURE)} == {
        "kdas.status": "reached",
        "kdas.calibration_id": "by-hand",
    }


def test_settings_have_dotted_names_and_those_that_are_not_set_are_left_out() -> None:
    found = parameters({"seed": 1, "optimizer": {"momentum": 0.9, "clip_norm": None}, "loss": [{"name": "kd"}]})
    assert {each.key: each.value for each in found} == {
        "seed": "1",
        "optimizer.momentum": "0.9",
        "loss": "[{'name': 'kd'}]",
    }


def test_a_miss_counts_as_the_whole_budget(jobs: list[Job]) -> None:
    rows = [Recorded(curve_row(jobs[0], number, each), [], 1.0) for number, each in enumerate([0.5, 0.9], start=1)]
    assert [(each.key, each.value) for each in current_time(rows, MEASURE)] == [("tta_or_budget_ref_s", 2.0)]
    assert [each.value for each in current_time(rows[:1], MEASURE)] == [10.0]
    assert current_time([], MEASURE) == []


def test_short_parameters_say_what_a_trial_sets(jobs: list[Job]) -> None:
    trial = described(jobs[0], "kdas_search", "start_rate 0.6 · sampling_period 4")
    found = {each.key: each.value for each in short_parameters(trial, Varied(mixed=frozenset({"sampling_period"})))}
    assert found == {"METHOD": "kdas_search", "START_RATE": "0.6", "SAMPLING_PERIOD": "[4]"}


def test_a_setting_in_which_trials_differ_is_a_parameter_also_where_it_is_the_default(jobs: list[Job]) -> None:
    varied = Varied(names=("start_rate", "epochs", "penalty_lambda"), log=frozenset({"penalty_lambda"}))
    searched = described(jobs[0], "kdas_search", "start_rate 0.6 · penalty_lambda 100")
    assert {each.key: each.value for each in short_parameters(searched, varied)} == {
        "METHOD": "kdas_search",
        "START_RATE": "0.6",
        "PENALTY_LAMBDA": "100",
        "PENALTY_LAMBDA_LOG10": "2",
        "EPOCHS": str(jobs[0].config.epochs),
    }
    paper = described(jobs[0], "kdas_paper", "defaults")
    paper["config"]["sampler"] = {"name": "kdas", "start_rate": 0.6}
    found = {each.key: each.value for each in short_parameters(paper, varied)}
    assert found == {"METHOD": "kdas_paper", "START_RATE": "0.6", "EPOCHS": str(jobs[0].config.epochs)}
    plain = described(jobs[0], "plain_kd", "every sample")
    plain["config"]["sampler"] = {"name": "full"}
    assert {each.key for each in short_parameters(plain, varied)} == {"METHOD", "EPOCHS"}


def test_a_run_lasts_as_long_as_its_trial(jobs: list[Job]) -> None:
    rows = [Recorded(curve_row(jobs[0], number, 0.5), [], 10.0 + number) for number in (1, 2)]
    # The first evaluation came after 1.5 seconds of training and 0.1 of evaluating.
    assert (began_at_ms(rows), ended_at_ms(rows)) == (9400, 12000)
    assert began_at_ms([]) is None and ended_at_ms([]) is None


def test_data_are_named_with_their_hash_and_source() -> None:
    config = {"dataset": {"name": "digits"}}
    (found,) = datasets(config, {"data_hash": "f" * 40, "data_source": "/data/digits"})
    assert (found.dataset.name, found.dataset.digest) == ("digits", "f" * 36)
    assert json.loads(found.dataset.source) == {"uri": "/data/digits"}
    assert datasets(config, {}) == []


def test_source_is_the_sweep_file_and_the_commit() -> None:
    assert source_tags("mine/cell", {"git_commit": "abc"}) == {
        "mlflow.source.name": "mine.yaml",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": "abc",
    }
    assert "mlflow.source.git.commit" not in source_tags("mine", {})
