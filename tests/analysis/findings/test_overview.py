"""Several sweeps side by side: scores over them, and one table where their times compare."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.findings.gather import Findings, findings
from analysis.findings.overview import overview
from analysis.page.report import render_overview
from kdas.errors import UserError
from kdas.records import Status
from tests.analysis.conftest import write_sweep

Sweep = Callable[..., Findings]


@pytest.fixture
def sweep(tmp_path: Path, plan: Any) -> Sweep:
    """Findings of a made-up sweep of this name, on three seeds; `half_s` of the searched ones is scaled."""

    def made(name: str, factor: float = 1.0, **terms: Any) -> Findings:
        trials = [
            replace(each, half_s=each.half_s * factor) if each.method == "kdas_search" else each for each in plan()
        ]
        return findings(write_sweep(tmp_path / name, trials, sweep=name, **terms))

    return made


def test_methods_are_scored_over_the_sweeps(sweep: Sweep) -> None:
    found = overview([sweep("fast"), sweep("slow", 2.0)])
    times = found.cells.pivot(index="method", columns="cell", values="time")
    assert set(times.columns) == {"fast", "slow"} and len(found.profiles) == 4
    assert times["fast"].idxmin() == "kdas_search" and times["slow"].idxmin() == "kdas_paper"
    assert found.profiles.loc["kdas_search", "share_best"] == 0.5
    assert found.profiles["score"].is_monotonic_decreasing
    said = f"claim nothing. {found.profiles.index[0]} has the best score over 2 sweeps: lowest mean time in 1, within"
    assert said in found.scores and "score" not in found.answer


def test_sweeps_of_one_task_share_one_table_with_shared_trials_once(sweep: Sweep) -> None:
    found = overview([sweep("a"), sweep("b", 2.0)])
    assert found.apart == ""
    counts = found.together.set_index("method")["num_trials"]
    assert counts["plain_kd"] == 3 and counts["rs2"] == 3
    assert {"a: kdas_search", "b: kdas_search"} <= set(found.together["method"])
    best = found.together[found.together["is_searched"].astype(bool)].iloc[0]
    assert best["method"] == "a: kdas_search" and best["num_pairs"] == 3
    # The joint table decides, with all of its rows as comparisons.
    assert found.answer.startswith("a: kdas_search was faster than plain_kd to 90% validation accuracy")
    alone = found.sweeps[0].summary.set_index("config_id").loc["c-s0"]
    assert best["config_id"] == "c-s0" and best["ratio"] == alone["ratio"] and best["ratio_low"] < alone["ratio_low"]


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"target": 0.8}, r"Targets differ \(80%, 90%\), so only ratios .* for example target: 0\.8\."),
        ({"target": 0.90004}, r"Targets differ \(90%, 90\.004%\)"),
        ({"split": "test"}, "Different splits decide"),
        ({"tau_ref_s": 150.0}, "Budgets differ"),
        ({"calibration_id": "other"}, "Calibrations differ"),
        ({"calibration_id": ""}, "calibration of a sweep is unknown"),
    ],
)
def test_times_that_are_not_comparable_are_kept_apart_with_the_reason(
    sweep: Sweep, terms: dict[str, Any], reason: str
) -> None:
    found = overview([sweep("a"), sweep("b", **terms)])
    assert re.search(reason, found.apart) and found.together.empty
    html = render_overview(found, "both", {})
    assert re.search(reason, html) and "has the best score over 2 sweeps" in html
    assert found.answer == (
        "Reliably faster than plain distillation in 2 of 2 sweeps: kdas_search in a, kdas_search in b. Each sweep "
        "keeps its own error rate of 5%, so over many sweeps expect some false ones."
    )


def test_it_ranks_as_the_sweeps_themselves_do(sweep: Sweep, plan: Any, tmp_path: Path, planned_trial: Any) -> None:
    trials = [planned_trial("plain_kd", "c-plain", seed, 18.0) for seed in range(3)]
    trials += [planned_trial("m1", "c-m1", seed, half_s) for seed, half_s in enumerate((10.0, 10.0, 55.0))]
    both = [findings(write_sweep(tmp_path / name, trials, sweep=name)) for name in ("x", "y")]
    assert all(each.summary["method"].iloc[0] == "plain_kd" for each in both)
    found = overview(both)
    assert "plain_kd has the best score over 2 sweeps: lowest mean time in 2, within" in found.scores
    assert found.answer.startswith("No setting of m1 was reliably faster than plain_kd")


def test_scores_of_sweeps_that_cannot_tell_are_no_claim(tmp_path: Path, planned_trial: Any) -> None:
    def sweep_of(name: str, target: float) -> Findings:
        trials = [planned_trial("plain_kd", "c-plain", seed, 18.0 + seed) for seed in range(3)]
        trials += [planned_trial("m1", "c-m1", seed, half_s) for seed, half_s in enumerate((10.0, 30.0, 55.0))]
        return findings(write_sweep(tmp_path / name, trials, sweep=name, target=target))

    found = overview([sweep_of("x", 0.9), sweep_of("y", 0.85)])
    assert found.apart and found.scores.startswith("The scores describe these samples and claim nothing. plain_kd has")
    assert found.answer == "No setting was reliably faster than plain distillation in any of 2 sweeps."
    html = render_overview(found, "both", {})
    assert f'<p class="answer">{found.answer}</p>' in html and html.index(found.answer) < html.index(found.scores)


def test_of_a_shared_trial_the_copy_that_went_furthest_counts(tmp_path: Path, plan: Any) -> None:
    running = [
        replace(each, status=Status.RUNNING, last_s=20.0) if each.method == "plain_kd" else each for each in plan()
    ]
    a = findings(write_sweep(tmp_path / "a", running, sweep="a"))
    b = findings(write_sweep(tmp_path / "b", plan(), sweep="b"))
    for order in ([a, b], [b, a]):
        together = overview(order).together.set_index("method")
        assert together.loc["plain_kd", "num_reached"] == 3 and together.loc["a: kdas_search", "num_pairs"].max() == 3


def test_methods_that_are_equally_good_are_both_named(tmp_path: Path, planned_trial: Any) -> None:
    def sweep_of(name: str, first_s: float, second_s: float) -> Findings:
        times_s = {"plain_kd": 40.0, "m1": first_s, "m2": second_s}
        trials = [planned_trial(method, f"c-{method}", 0, half_s) for method, half_s in times_s.items()]
        return findings(write_sweep(tmp_path / name, trials, sweep=name))

    said = overview([sweep_of("x", 10.0, 15.0), sweep_of("y", 15.0, 10.0)]).scores
    assert "m1 and m2 have the same score over 2 sweeps. Scores" in said


def test_a_sweep_without_a_result_is_left_out_and_named(sweep: Sweep, tmp_path: Path, planned_trial: Any) -> None:
    alone = findings(write_sweep(tmp_path / "alone", [planned_trial("m1", "c-m1", 0, 20.0)], sweep="alone"))
    nothing = findings(write_sweep(tmp_path / "nothing", [], sweep="nothing", target=0.9))
    scores = overview([alone, nothing]).scores
    assert "m1 has the best score over 1 sweep (without 1 that has no result yet): lowest mean time in 1" in scores


def test_ratios_to_different_baselines_are_not_drawn_as_to_one(sweep: Sweep) -> None:
    assert "times as fast as plain_kd" in render_overview(overview([sweep("a"), sweep("b")]), "both", {})
    html = render_overview(overview([sweep("c"), sweep("d", baseline="rs2")]), "both", {})
    assert "times as fast as plain_kd / rs2" in html
    # The baseline of each is one method, and no sweep lacks it.
    found = overview([sweep("e"), sweep("f", baseline="rs2")])
    assert "plain_kd / rs2" in found.profiles.index and found.profiles.loc["plain_kd / rs2", "num_cells"] == 2


def test_one_sweep_alone_or_twice_is_refused(sweep: Sweep) -> None:
    one = sweep("a")
    for given in ([one], [one, one]):
        with pytest.raises(UserError, match="compare: expected two or more different sweeps, got a"):
            overview(given)


def test_a_target_that_nobody_reached_is_no_error(sweep: Sweep) -> None:
    found = overview([sweep("a", target=0.99), sweep("b", target=0.99)])
    assert found.answer == "No trial has reached 99% validation accuracy."
    assert found.scores == "No method reached the target on more than half of its seeds in any of 2 sweeps."
    assert (found.cells["time"] == math.inf).all() and (found.profiles["score"] == 0).all()
    assert "best score" not in render_overview(found, "both", {})


def test_the_command_writes_a_page_that_links_to_the_reports(sweep: Sweep, tmp_path: Path) -> None:
    sweep("a"), sweep("b", 2.0)
    CliRunner().invoke(app, ["report", str(tmp_path / "a"), "--quiet"], catch_exceptions=False)
    out = tmp_path / "compare" / "a+b.html"
    words = ["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(out)]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0 and result.output.rstrip().endswith(str(out))
    html = out.read_text(encoding="utf-8")
    assert 'href="../a/report.html"' in html and "b/report.html" not in html
    assert len(pd.read_csv(out.with_suffix(".csv"))) == 8
    assert CliRunner().invoke(app, [*words, "--quiet"]).output == ""


def test_plain_distillation_with_fewer_epochs_is_a_method_beside_the_baseline(
    tmp_path: Path, plan: Any, planned_trial: Any
) -> None:
    half = [planned_trial("plain_half", "c-half", seed, 12.0 + seed) for seed in (0, 1, 2)]
    sweeps = [
        findings(write_sweep(tmp_path / name, [*plan(), *half], sweep=name, plain_methods=["plain_kd", "plain_half"]))
        for name in ("a", "b")
    ]
    found = overview(sweeps)
    cells = found.cells.set_index(["cell", "method"])
    assert {"plain_kd", "plain_half"} <= set(found.profiles.index)
    assert cells.loc[("a", "plain_half"), "is_reference"] and not cells.loc[("a", "plain_kd"), "is_reference"]
    assert "times as fast as plain_half" in render_overview(found, "both", {})
