"""Accuracy curves and times to other targets: a line and a band over seeds for each method."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import wording
from analysis.findings.summary import fastest
from analysis.findings.trial_times import median_times, of_configuration
from analysis.page.plots.style import (
    GREY,
    INK,
    MOST_DRAWN,
    RULE,
    Look,
    empty,
    label,
    legend_below,
    logarithmic,
    looks,
    not_all,
    styled,
    tagged,
)
from analysis.wording import Row
from kdas.records import Measure

_GRID_POINTS = 240
# Thin grey lines need fewer points.
_COARSER = 3
# Cost axes of a figure, and their labels.
COST_AXES = {
    "cost_ref_s": "cost, reference seconds",
    "wall_s": "training time, wall seconds",
    "flops": "work, FLOPs",
}

Floats = NDArray[np.float64]


@styled
def accuracy_against_cost(
    curves: pd.DataFrame, summary: pd.DataFrame, measure: Measure, cost: str = "cost_ref_s"
) -> Figure:
    """Accuracy of the deciding split against cost, on a logarithmic axis.

    Each method shows its fastest configuration: the median over seeds, their range as a band, and, in reference
    seconds, a dot at its median time to the target. The baseline is black. All other configurations are thin grey
    medians.

    Args: curves: of `load`; summary: of `summarize`, orders the configurations; cost: a key of `COST_AXES`.
    """
    evaluated = curves[curves[cost] > 0]
    if evaluated.empty or summary.empty:
        return empty("No evaluation yet." if curves.empty else f"{COST_AXES[cost].capitalize()}: not recorded.")
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    shown = fastest(summary)
    hidden = summary[~summary["config_id"].isin(shown["config_id"])].drop_duplicates("config_id")
    _draw_others(axes, evaluated, hidden, measure, cost)
    styles = looks(shown["method"], measure.baseline)
    for row in shown.to_dict("records"):
        _draw_method(axes, evaluated, row, measure, cost, styles[row["method"]])
    _draw_target(axes, measure)
    _label(axes, measure, cost, best_accuracy=float(evaluated[measure.deciding_column].max()))
    if len(shown):
        # Below the axes, because the lines fill the plot.
        title = "median time to the target, reference s" if cost == "cost_ref_s" else None
        legend_below(figure, 2, title)
    return figure


@styled
def time_against_target(curves: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """The median time to other targets, of each method's fastest configuration at the sweep's target.

    A line ends where half of the seeds miss the target. Where lines cross, the answer depends on the target.
    """
    shown = fastest(summary)
    best = curves[measure.deciding_column].max()
    if not np.isfinite(best) or not len(shown):
        return empty("No evaluation yet.")
    targets = np.linspace(0.6 * min(measure.target, best), best, _GRID_POINTS)
    rows = shown.to_dict("records")
    medians = [_drawn(median_times(curves, row, measure.deciding_column, targets)) for row in rows]
    if not any(np.isfinite(median).any() for median in medians):
        return empty("Half of the seeds or more missed every target.")
    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    axes = figure.add_subplot()
    styles = looks(shown["method"], measure.baseline)
    for row, median in zip(rows, medians, strict=True):
        colour, line_style, _ = styles[row["method"]]
        axes.plot(
            targets, median, color=colour, linestyle=line_style, linewidth=1.8, label=label(row, 50),
            gid=tagged(row["config_id"]),
        )  # fmt: skip
    axes.axvline(measure.target, color=INK, linewidth=0.9)
    axes.annotate(
        f"target {wording.goal(measure.target)}", xy=(measure.target, 1), xycoords=("data", "axes fraction"),
        xytext=(-3, -3), textcoords="offset points", rotation=90, ha="right", va="top", color=INK,
    )  # fmt: skip
    axes.set_xlabel(f"target: {measure.split} accuracy")
    axes.set_ylabel("median time to it, reference seconds")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{share * 100:.4g}%"))
    axes.grid(color=RULE, linewidth=0.6)
    logarithmic(axes, "y")
    legend_below(figure, 2)
    return figure


def _drawn(times: Floats) -> Floats:
    """Times for a logarithmic axis: a miss, or a time of 0, is a gap."""
    return np.where(np.isfinite(times) & (times > 0), times, np.nan)


def seed_band(
    curves: pd.DataFrame, column: str, cost_column: str = "cost_ref_s"
) -> tuple[Floats, Floats, Floats, Floats]:
    """Median and range over trials on a common cost grid; each trial keeps its last accuracy until its next evaluation.

    A trial that has ended keeps its last accuracy to the end of the grid. The grid begins where every trial has an
    evaluation; otherwise the band would jump whenever a seed joins.

    Args: curves: evaluations of one configuration with costs above 0; column: the accuracy to draw; cost_column.
    Returns: cost, median, lowest, highest, each [G]; empty if there are no evaluations.
    """
    trials = [
        (trial[cost_column].to_numpy(dtype=float), trial[column].to_numpy(dtype=float))
        for _, trial in curves.dropna(subset=[column]).groupby("trial_id")
    ]
    if not trials:
        nothing = np.empty(0)
        return nothing, nothing, nothing, nothing
    start, end = max(cost[0] for cost, _ in trials), max(cost[-1] for cost, _ in trials)
    grid = np.geomspace(start, max(start, end), _GRID_POINTS)
    # geomspace may miss its ends by one bit, which would put the first evaluation outside the grid.
    grid[0], grid[-1] = start, max(start, end)
    held = np.stack([accuracy[np.searchsorted(cost, grid, side="right") - 1] for cost, accuracy in trials])
    return grid, np.median(held, axis=0), held.min(axis=0), held.max(axis=0)


def _draw_others(axes: Axes, curves: pd.DataFrame, hidden: pd.DataFrame, measure: Measure, cost: str) -> None:
    own = dict(iter(curves.groupby(["config_id", "phase"])))
    for index, row in enumerate(hidden.head(MOST_DRAWN).to_dict("records")):
        config_id = row["config_id"]
        costs, median, _, _ = seed_band(
            own.get((config_id, row["phase"]), curves.iloc[:0]), measure.deciding_column, cost
        )
        costs, median = costs[::_COARSER], median[::_COARSER]
        others = f"{wording.plural(len(hidden), 'other configuration')}{not_all(len(hidden))}" if index == 0 else None
        axes.step(
            costs, median, where="post", color=GREY, linewidth=0.7, alpha=0.7, label=others, zorder=1,
            gid=tagged(config_id),
        )  # fmt: skip


def _draw_method(axes: Axes, curves: pd.DataFrame, row: Row, measure: Measure, cost: str, look: Look) -> None:
    own = of_configuration(curves, row)
    costs, median, lowest, highest = seed_band(own, measure.deciding_column, cost)
    colour, line_style, marker = look
    tag = tagged(row["config_id"])
    tta_ref_s, at_least_s = float(row["tta_ref_s"]), float(row["tta_at_least_s"])
    named = label(row, 50, wording.time(tta_ref_s, at_least_s) if cost == "cost_ref_s" else "")
    axes.step(
        costs, median, where="post", color=colour, linestyle=line_style, linewidth=1.8, label=named, zorder=3, gid=tag
    )
    axes.fill_between(costs, lowest, highest, step="post", color=colour, alpha=0.15, linewidth=0, zorder=2)
    if cost == "cost_ref_s" and 0 < tta_ref_s <= at_least_s < math.inf:
        axes.plot(tta_ref_s, measure.target, marker, color=colour, markeredgecolor="white", markersize=7, zorder=5)


def _draw_target(axes: Axes, measure: Measure) -> None:
    axes.axhline(measure.target, color=INK, linewidth=0.9, zorder=4)
    axes.annotate(
        f"target {wording.goal(measure.target)}",
        xy=(0, measure.target),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        color=INK,
    )


def _label(axes: Axes, measure: Measure, cost: str, *, best_accuracy: float) -> None:
    decided = " (it decided)" if measure.split == "test" else ""
    axes.set_ylabel(f"{measure.split} accuracy{decided}")
    axes.set_xlabel(f"{COST_AXES[cost]} (logarithmic)")
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{share * 100:.4g}%"))
    axes.grid(axis="y", color=RULE, linewidth=0.6)
    if math.isnan(best_accuracy):
        return
    # Accuracies far below the target do not matter and would squeeze the rest.
    bottom = 0.6 * min(measure.target, best_accuracy)
    axes.set_ylim(bottom=bottom)
    axes.set_xlim(left=_first_cost_above(axes, bottom))
    logarithmic(axes, "x")


def _first_cost_above(axes: Axes, bottom: float) -> float | None:
    """A little to the left of where the first curve enters the plot; None if none does."""
    points = (np.asarray(line.get_xydata()) for line in axes.lines if len(np.asarray(line.get_xydata())) > 2)
    seen = [curve[curve[:, 1] >= bottom, 0] for curve in points]
    costs = np.concatenate([cost for cost in seen if len(cost)] or [np.empty(0)])
    return 0.9 * float(costs.min()) if len(costs) else None
