"""The summary table, and what it is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import wording
from analysis.curves import load, load_measure, load_trials
from analysis.findings.gather import findings
from analysis.findings.summary import SUMMARY_COLUMNS, reference_name, summarize
from analysis.findings.timing import timing_check
from analysis.findings.trial_times import trial_times
from kdas.records import Status
from tests.analysis.conftest import row_of, texts

NewSweep = Callable[..., Path]


def test_one_row_per_configuration_with_the_fastest_first(sweep_directory: Path) -> None:
    summary = findings(sweep_directory).summary
    assert tuple(summary.columns) == SUMMARY_COLUMNS
    assert summary["config_id"].is_unique and len(summary) == 7
    assert summary["mean_upper_s"].is_monotonic_increasing


def test_the_summary_does_not_change_what_it_is_given(sweep_directory: Path) -> None:
    curves, trials, measure = load(sweep_directory), load_trials(sweep_directory), load_measure(sweep_directory)
    before = curves.copy(), trials.copy()
    summary = summarize(trial_times(curves, trials, measure), measure)
    pd.testing.assert_frame_equal(summary, findings(sweep_directory).summary)
    pd.testing.assert_frame_equal(curves, before[0])
    pd.testing.assert_frame_equal(trials, before[1])


def test_a_row_holds_medians_bounds_and_the_paired_comparison(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    row, times = row_of(found, "c-rs2"), found.times.set_index("trial_id")["tta_ref_s"]
    own = [times[f"c-rs2-{seed}"] for seed in range(3)]
    base = [times[f"c-plain-{seed}"] for seed in range(3)]
    assert own[1] == math.inf and row["tta_ref_s"] == np.median(own)
    assert (row["num_reached"], row["num_trials"], row["num_pairs"]) == (2, 3, 3)
    assert row["mean_lower_s"] == row["mean_upper_s"] == pytest.approx(sum(min(time_s, 200) for time_s in own) / 3)
    assert row["ratio"] == pytest.approx(sum(base) / sum(min(time_s, 200) for time_s in own))
    assert row["mark"] == "<=" and math.isnan(row["geometric_ratio"])


def test_a_crash_opens_the_bounds(sweep_directory: Path) -> None:
    row = row_of(findings(sweep_directory), "c-s3")
    assert row["tta_ref_s"] == math.inf and row["mark"] == "to"
    assert row["mean_lower_s"] == pytest.approx((60 + 200 + 200) / 3) and row["mean_upper_s"] == 200


def test_a_trial_without_an_evaluation_counts_as_a_miss(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan([0, 1])
    trials[1] = replace(trials[1], last_s=0.0, status=Status.CRASHED, error="no GPU")
    row = row_of(findings(new_sweep(trials)), "c-rs2")
    assert (row["num_reached"], row["num_trials"], row["mean_lower_s"]) == (0, 2, 100)


def test_a_running_trial_is_in_the_bounds_and_in_no_pair(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan([0, 1])
    trials[0] = replace(trials[0], last_s=20.0, status=Status.RUNNING)
    found = findings(new_sweep(trials, num_planned_trials=30))
    assert row_of(found, "c-paper")["num_pairs"] == 1
    assert row_of(found, "c-plain")["mean_lower_s"] < row_of(found, "c-plain")["mean_upper_s"]
    assert "The sweep is not finished: 13 of 30 planned trials have ended" in texts(found, "answer")


def test_a_trial_that_ended_on_the_way_is_no_miss(new_sweep: NewSweep, plan: Any) -> None:
    trials = [
        replace(trial, status=Status.CAPPED, last_s=40.0) if trial.config_id == "c-s2" else trial for trial in plan()
    ]
    row = row_of(findings(new_sweep(trials)), "c-s2")
    assert (row["num_open"], row["tta_ref_s"], row["tta_at_least_s"]) == (3, math.inf, 40.0)
    assert wording.time(row["tta_ref_s"], row["tta_at_least_s"]) == "> 40.00"
    # Whether they would have reached it is unknown.
    assert (row["reached_low"], row["reached_high"]) == (0.0, 1.0)
    assert math.isnan(row["tta_hold_to_end_s"]) and math.isnan(row["tta_two_in_a_row_s"])
    assert row["ratio"] < row["ratio_at_most"] and "x to " in wording.ratio(row)


def test_what_reached_and_was_stopped_later_is_not_said_to_hold(new_sweep: NewSweep, plan: Any) -> None:
    trials = [
        replace(each, status=Status.CRASHED, last_s=80.0) if each.config_id == "c-s0" else each for each in plan()
    ]
    row = row_of(findings(new_sweep(trials)), "c-s0")
    assert row["num_open"] == 0 and row["tta_two_in_a_row_s"] == row["tta_ref_s"]
    assert math.isnan(row["tta_hold_to_end_s"])


def test_other_axes_compare_only_where_all_reached(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan()))
    row = row_of(found, "c-s0")
    # Each made-up axis is proportional to reference seconds, in every trial alike.
    assert row["ratio_as_run"] == pytest.approx(row["ratio"]) and row["ratio_flops"] == pytest.approx(row["ratio"])
    assert row["ratio_wall"] == pytest.approx(row["ratio"])
    assert math.isnan(row_of(found, "c-rs2")["ratio_as_run"])
    shared = [replace(each, num_cotenants=1) if each.config_id == "c-s0" else each for each in plan()]
    row = row_of(findings(new_sweep(shared)), "c-s0")
    assert math.isnan(row["ratio_wall"]) and not math.isnan(row["ratio_flops"])


def test_a_time_over_the_budget_is_a_miss(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan(), tau_ref_s=60.0))
    row = row_of(found, "c-s0")
    assert row["num_reached"] == 0 and row["mean_lower_s"] == row["mean_upper_s"] == 60.0
    assert row["tta_ref_s"] == row["tta_linear_s"] == math.inf and math.isnan(row["ref_s_at_hit"])
    # Its time in trials.parquet is no contradiction.
    assert "have different times" not in texts(found, "trials")
    assert row_of(findings(new_sweep(plan(), tau_ref_s=68.0)), "c-s0")["num_reached"] == 3


def test_of_several_baselines_the_one_with_the_most_seeds_is_compared_with(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    found = findings(new_sweep([*plan(), planned_trial("plain_kd", "c-lucky", 9, 10.0)]))
    assert row_of(found, "c-plain")["is_reference"] and row_of(found, "c-s0")["num_pairs"] == 3


def test_the_front_knows_neither_survivors_nor_lucky_search_seeds(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    trials = [
        replace(each, status=Status.CAPPED, last_s=20.0) if each.config_id == "c-s1" and each.seed else each
        for each in plan()
    ]
    diverged = [planned_trial("kdas_search", "c-div", s, 60.0, status=Status.DIVERGED, last_s=8.0) for s in range(3)]
    front = findings(new_sweep(trials + diverged)).front
    assert {"c-plain", "c-s0"} <= set(front["config_id"]) and not {"c-s1", "c-div", "c-s3"} & set(front["config_id"])
    confirm = [
        planned_trial(method, config, seed, 20.0, phase="confirm")
        for seed in range(100, 103)
        for method, config in (("plain_kd", "c-plain"), ("kdas_search", "c-s0"))
    ]
    assert set(findings(new_sweep(trials + confirm)).front["phase"]) == {"confirm"}


def test_a_trial_that_shared_for_a_while_was_not_alone(sweep_directory: Path) -> None:
    curves = load(sweep_directory)
    first = (curves["trial_id"] == "c-plain-0") & (curves["step"] == 10)
    timing = timing_check(curves.assign(num_cotenants=first.astype(int)))
    assert timing.set_index("num_cotenants")["num_trials"].to_dict() == {0: 20, 1: 1}
    assert timing["slowdown"].tolist() == pytest.approx([1.1 / 0.8] * 2)


def test_the_test_split_decides_only_where_it_is_said_to(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan([0]), split="test"))
    own = found.curves.query("trial_id == 'c-plain-0' and test_accuracy >= 0.9")
    assert row_of(found, "c-plain")["tta_ref_s"] == own["cost_ref_s"].iloc[0]
    assert "The test split decided" in texts(found, "answer") and "test accuracy" in found.answer.headline


def test_of_several_baseline_configurations_the_fastest_is_compared_with(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    tuned = [planned_trial("plain_kd", "c-tuned", seed, 25.0) for seed in range(3)]
    found = findings(new_sweep(plan() + tuned))
    assert row_of(found, "c-tuned")["is_reference"] and not row_of(found, "c-plain")["is_reference"]
    assert row_of(found, "c-plain")["ratio"] < 1


def test_intervals_of_more_rows_are_wider_since_they_hold_together(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan(range(8))
    few = [trial for trial in trials if trial.config_id in ("c-plain", "c-s1")]
    alone, among = row_of(findings(new_sweep(few)), "c-s1"), row_of(findings(new_sweep(trials)), "c-s1")
    assert alone["ratio"] == among["ratio"] and alone["p_value"] < among["p_value"]
    assert among["ratio_low"] < alone["ratio_low"] and alone["ratio_high"] < among["ratio_high"]


def test_ratios_are_to_the_fastest_plain_setting_beside_the_full_schedule(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    half = [planned_trial("plain_half", "c-half", seed, 24.0 + seed) for seed in range(4)]
    found = findings(new_sweep(plan(range(4)) + half, plain_methods=["plain_kd", "plain_half"]))
    reference, full, row = (row_of(found, name) for name in ("c-half", "c-plain", "c-s0"))
    assert reference["is_reference"] and not full["is_reference"] and full["is_plain"]
    times = found.times.groupby("config_id")["upper_s"].sum()
    assert row["ratio"] == pytest.approx(times["c-half"] / times["c-s0"])
    assert row["full_ratio"] == pytest.approx(times["c-plain"] / times["c-s0"])
    assert row["full_low"] < row["full_ratio"] < row["full_high"] and math.isnan(full["full_ratio"])
    assert found.answer.estimate.endswith("as fast as plain_half")
    assert (
        f"Against the full schedule of plain_kd, kdas_search was {wording.full(row)} as fast." in found.answer.details
    )
    assert reference_name(found.summary, found.measure) == "plain_half"
    # Where trials only bound their times, so does this ratio.
    stopped = [
        replace(each, status=Status.STOPPED_EARLY, last_s=8.0) if each.config_id == "c-s0" and each.seed else each
        for each in plan(range(4))
    ]
    bounded = row_of(findings(new_sweep(stopped + half, plain_methods=["plain_kd", "plain_half"])), "c-s0")
    assert bounded["full_ratio"] < bounded["full_at_most"] and "x to " in wording.full(bounded)
    # Older tables do not say which methods are plain: the baseline alone.
    assert row_of(findings(new_sweep(plan(range(4)) + half)), "c-plain")["is_reference"]


def test_plain_settings_are_named_with_their_epochs_where_these_differ(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    half = [planned_trial("plain_half", "c-half", seed, 24.0 + seed) for seed in range(4)]
    directory = new_sweep(plan(range(4)) + half, plain_methods=["plain_kd", "plain_half"])
    trials = pd.read_parquet(directory / "trials.parquet")
    epochs = np.where(trials["method"] == "plain_half", 12, 24)
    trials.assign(epochs=epochs).to_parquet(directory / "trials.parquet")
    found = findings(directory)
    assert found.answer.headline.startswith("kdas_search was faster than plain_half (12 epochs) to 90%")
    assert "plain_half (fixed, 12 epochs), plain_kd (fixed, 24 epochs)" in found.answer.compared
    assert reference_name(found.summary, found.measure) == "plain_half (12 epochs)"


def test_the_level_of_a_sequential_confirmation_is_that_of_its_last_look(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    confirm = [
        planned_trial(method, config_id, seed, half_s + seed % 3, phase="confirm")
        for seed in range(100, 106)
        for method, config_id, half_s in (("plain_kd", "c-plain", 30.0), ("kdas_search", "c-s1", 20.0))
    ]
    both = [findings(new_sweep(plan() + confirm, confirm_level=level)) for level in (0.05, 0.01)]
    fixed, looked = (row_of(found, "c-s1", "confirm") for found in both)
    assert looked["ratio_low"] < fixed["ratio_low"] and looked["p_value"] > fixed["p_value"]
    assert len({row_of(found, "c-s1")["ratio_low"] for found in both}) == 1


def test_second_end_points_have_their_spread(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    row = row_of(found, "c-rs2")
    # Clopper-Pearson for 2 of 3, from tables.
    assert (row["reached_low"], row["reached_high"]) == pytest.approx((0.0943, 0.9916), abs=1e-4)
    final = found.curves.query("config_id == 'c-rs2'").groupby("trial_id")["test_accuracy"].last()
    assert row["final_test_accuracy"] == pytest.approx(final.mean())
    assert row["final_test_sd"] == pytest.approx(final.std()) and row["num_final"] == 3
    assert wording.final(row_of(found, "c-s3")).endswith(" (2 of 3 trials)")  # one crashed
    assert (row["num_tuned"], row_of(found, "c-s0")["num_tuned"]) == (0, 4)


def test_a_cached_teacher_is_cached_for_the_reference_too(sweep_directory: Path) -> None:
    assert math.isnan(row_of(findings(sweep_directory), "c-s0")["ratio_without_teacher"])
    curves = pd.read_parquet(sweep_directory / "curves.parquet")
    # Half of plain distillation's cost is the teacher's, a tenth of the others'.
    share = np.where(curves["method"] == "plain_kd", 0.5, 0.9)
    curves.assign(cost_without_teacher_s=share * curves["cost_ref_s"]).to_parquet(sweep_directory / "curves.parquet")
    row = row_of(findings(sweep_directory), "c-s0")
    assert row["ratio_without_teacher"] == pytest.approx(row["ratio"] * 0.5 / 0.9)
    assert row["ratio_without_teacher_low"] == pytest.approx(row["ratio_low"] * 0.5 / 0.9)
    assert math.isnan(row_of(findings(sweep_directory), "c-rs2")["ratio_without_teacher_low"])
