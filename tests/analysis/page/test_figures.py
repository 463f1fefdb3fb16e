"""The figures of a report: what is drawn, and what they say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.findings.gather import findings
from analysis.page import plots
from analysis.page.figures import figures
from analysis.page.plots.curves import seed_band
from kdas.records import Status

NewSweep = Callable[..., Path]


def test_a_band_holds_the_last_evaluation_and_the_range_of_seeds(sweep_directory: Path) -> None:
    curves = findings(sweep_directory).curves.query("config_id == 'c-plain'")
    cost, median, lowest, highest = seed_band(curves, "val_accuracy")
    assert (lowest <= median).all() and (median <= highest).all()
    assert (np.diff(median) >= 0).all() and cost[0] == curves["cost_ref_s"].min()
    ends = curves.groupby("trial_id")["val_accuracy"].last()
    assert (lowest[-1], median[-1], highest[-1]) == (ends.min(), ends.median(), ends.max())


def test_the_figure_draws_a_line_for_each_method_and_the_target(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    figure = plots.accuracy_against_cost(found.curves, found.summary, found.measure)
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    labels = [str(line.get_label()) for line in axes.get_lines()]
    assert axes.get_xscale() == "log"
    for method in ("plain_kd", "rs2", "kdas_paper", "kdas_search"):
        assert sum(label.startswith(method) for label in labels) == 1
    assert any(set(np.atleast_1d(line.get_ydata())) == {0.9} for line in axes.get_lines())
    styles = {(line.get_color(), str(line.get_linestyle())) for line in axes.get_lines() if line.get_linewidth() > 1.6}
    assert len(styles) >= 4


def test_the_search_is_drawn_beside_the_reference_under_its_own_name(new_sweep: NewSweep, plan: Any) -> None:
    # The reference is the fastest plain setting, here a shorter schedule.
    trials = [replace(each, method="plain_half") if each.method == "kdas_paper" else each for each in plan()]
    found = findings(new_sweep(trials, plain_methods=["plain_kd", "plain_half"]))
    for draw in (plots.anytime, plots.expected_best_of):
        labels = [text.get_text() for text in draw(found.anytime, found.search_reference).legends[0].texts]
        assert "plain_half" in labels and "plain_kd" not in labels


def test_what_is_drawn_of_the_search_beside_a_confirmed_answer_is_named(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    confirmed = [
        planned_trial(method, config_id, seed, 25.0, phase="confirm")
        for seed in (100, 101)
        for method, config_id in (("plain_kd", "c-plain"), ("kdas_search", "c-s1"))
    ]
    found = findings(new_sweep(plan() + confirmed))
    drawn = plots.accuracy_against_cost(found.curves, found.summary, found.measure)
    legend = [text.get_text().replace("\n", " ") for text in drawn.legends[0].texts]
    named = {line.split(",")[0]: line for line in legend}
    assert "search seeds" in named["rs2"] and "seeds" not in named["plain_kd"]


def test_a_median_that_is_not_known_has_no_dot_and_other_axes_have_none(new_sweep: NewSweep, plan: Any) -> None:
    trials = [each for each in plan() if each.config_id in ("c-plain", "c-s2")]
    crashed = [
        replace(each, status=Status.CRASHED, last_s=20.0) if each.config_id == "c-s2" else each for each in trials
    ]
    for planned, cost, num_dots in ((trials, "cost_ref_s", 2), (crashed, "cost_ref_s", 1), (trials, "wall_s", 0)):
        found = findings(new_sweep(planned))
        axes = plots.accuracy_against_cost(found.curves, found.summary, found.measure, cost).axes[0]
        assert sum(len(line.get_xdata()) == 1 for line in axes.lines) == num_dots
    shared = [replace(each, num_cotenants=2) for each in trials]
    captions = {name: each.caption for name, each in figures(findings(new_sweep(shared))).items()}
    assert "A dot marks" in captions["accuracy"] and "A dot" not in captions["accuracy_by_wall"]
    assert "6 trials shared a device" in captions["accuracy_by_wall"]
    assert "shared a device" not in captions["accuracy_by_flops"]


def test_many_methods_make_a_figure_higher_and_not_its_axes_smaller(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    def heights(num_others: int) -> list[float]:
        names = [f"other_{number}" for number in range(num_others)]
        more = [planned_trial(name, f"c-{name}", seed, 40.0 + seed) for name in names for seed in (0, 1, 2)]
        found = findings(new_sweep(plan() + more))
        drawn = [
            plots.accuracy_against_cost(found.curves, found.summary, found.measure),
            plots.ratio_against_target(found.by_target, found.measure, found.answer.config_id),
        ]
        for figure in drawn:
            figure.draw_without_rendering()
        return [each.axes[0].get_position().height * each.get_figheight() for each in drawn]

    for few, many in zip(heights(0), heights(40), strict=True):
        assert 0.9 * few < many < 1.3 * few
