"""A sweep at other targets, the ratio against the target, and what later trainings repay."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.findings.answer import answer
from analysis.findings.gather import findings
from analysis.findings.judgement import judge
from analysis.findings.targets import target_deviation
from analysis.wording import mean_time
from kdas.errors import UserError
from kdas.records import Status
from tests.analysis.conftest import row_of, texts

NewSweep = Callable[..., Path]


def test_another_target_gives_what_a_sweep_with_that_target_would(new_sweep: NewSweep, plan: Any) -> None:
    told = findings(new_sweep(plan(), target=0.94))
    directory = new_sweep(plan())
    asked = findings(directory, target=0.94)
    columns = ["num_reached", "num_open", "mean_lower_s", "mean_upper_s", "ratio", "ratio_low", "ratio_high"]
    assert asked.summary[columns].equals(told.summary[columns])
    assert asked.measure.target == 0.94 and asked.own_target == 0.9
    said = texts(asked, "answer")
    assert "The sweep chose and stopped by its own target, 90%." in said and "have different times" not in said
    assert asked.measure.target_rule == "given for this report; the sweep's own target is 90%"
    assert "own target" not in texts(findings(directory, target=0.9), "answer")


def test_a_trial_that_ran_to_its_end_has_missed_a_higher_target_and_a_stopped_one_is_a_bound(
    new_sweep: NewSweep, plan: Any
) -> None:
    trials = [
        replace(trial, status=Status.CAPPED, last_s=80.0) if trial.config_id == "c-s2" else trial for trial in plan()
    ]
    found = findings(new_sweep(trials), target=0.955)
    ended, stopped = row_of(found, "c-plain"), row_of(found, "c-s2")
    assert (ended["num_reached"], ended["num_open"], ended["mean_lower_s"]) == (0, 0, 200.0)
    assert (stopped["num_open"], mean_time(stopped)) == (3, "80.00 to > budget") or stopped["mean_lower_s"] == 80.0
    assert set(found.times.loc[found.times["config_id"] == "c-plain", "status"]) == {"budget"}


@pytest.mark.parametrize("target", [95.0, 0.0, -0.5, math.nan])
def test_a_target_that_is_no_fraction_is_refused(sweep_directory: Path, target: float) -> None:
    with pytest.raises(UserError, match=r"target: expected a fraction in \(0, 1\], got .* Write 0\.95 for 95%"):
        findings(sweep_directory, target=target)


def test_the_command_writes_files_of_their_own_for_another_target(sweep_directory: Path) -> None:
    runner = CliRunner()
    result = runner.invoke(app, ["report", str(sweep_directory), "--target", "0.8", "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0
    names = {path.name for path in sweep_directory.iterdir()}
    assert {"report_at_0.8.html", "report_at_0.8.md", "summary_at_0.8.csv"} <= names and "report.html" not in names
    with pytest.raises(UserError, match=r"target: expected a fraction in \(0, 1\], got 'soon'"):
        runner.invoke(app, ["report", str(sweep_directory), "--target", "soon"], catch_exceptions=False)


def test_the_picture_holds_the_ratios_that_reports_at_its_targets_would_show(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    best = found.times.loc[found.times["method"] == "plain_kd", "best_accuracy"].median()
    own = found.by_target[found.by_target["config_id"] == "c-s0"]
    assert (own["target"].iloc[0], own["target"].iloc[-1]) == pytest.approx((0.95 * best, 0.995 * best))
    assert set(found.by_target["method"]) == {"rs2", "kdas_paper", "kdas_search"}
    for point in own.iloc[[0, 20, 40]].to_dict("records"):
        row = row_of(findings(sweep_directory, target=point["target"]), "c-s0")
        assert (point["ratio"], point["low"], point["high"]) == pytest.approx(
            (row["ratio"], row["ratio_low"], row["ratio_high"])
        )


def test_the_answer_is_said_one_deviation_of_the_target_away(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    assert target_deviation(found.times, found.measure) == pytest.approx(0.0016, abs=2e-3)
    given = replace(found.measure, target_rule="given in the sweep file")
    assert math.isnan(target_deviation(found.times, given))


def test_a_ratio_that_depends_on_the_target_is_said_with_the_answer(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    judged = judge(found.times, found.summary, found.measure)
    own = judged.compare(*(place or 0 for place in judged.quoted))
    said = "All this is at one target, which is an estimate too: one standard deviation away, at 89% the ratio is "
    same = answer(judged, found.measure, [(0.89, own)])
    assert said in " ".join(same.more) and said not in " ".join(same.points)
    other = answer(judged, found.measure, [(0.89, replace(own, ratio_low=0.9, ratio_high=1.4))])
    assert said + "[0.90, 1.40]" in " ".join(other.points) and said not in " ".join(other.more)


def test_the_deviation_of_a_median_of_three_is_that_of_all_resamples(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan()))
    is_plain = found.times["method"] == "plain_kd"
    times = found.times.assign(best_accuracy=found.times["best_accuracy"].mask(is_plain, [0.90, 0.92, 0.97] * 7))
    own = times.loc[is_plain, "best_accuracy"].tolist()
    # Of 27 resamples of three different values, 7 have the lowest as their median, 13 the middle and 7 the highest.
    medians = np.repeat(sorted(own), [7, 13, 7])
    assert target_deviation(times, found.measure) == pytest.approx(0.99 * medians.std())
    assert len(set(own)) == 3


def test_later_trainings_repay_the_sweep(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    row, repaid = row_of(found, "c-s0"), found.payback
    assert repaid is not None and repaid.cost_s == pytest.approx(found.times["last_cost_ref_s"].sum())
    plain_s = row_of(found, "c-plain")["mean_upper_s"]
    saved_s = plain_s - row["mean_upper_s"]
    assert repaid.trainings == pytest.approx(repaid.cost_s / saved_s)
    assert repaid.least == pytest.approx(repaid.cost_s / (plain_s * (1 - 1 / row["ratio_high"])))
    assert repaid.least < repaid.trainings < repaid.most


def test_what_saves_nothing_repays_nothing(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep([trial for trial in plan() if trial.config_id in ("c-plain", "c-s2")]))
    assert found.payback is not None and found.payback.trainings == found.payback.least == math.inf
    alone = findings(new_sweep([trial for trial in plan() if trial.config_id == "c-plain"]))
    assert alone.payback is None
