"""The figure of a sweep: accuracy against cost, a line and a band over seeds for each method."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis import wording
from analysis.measure import Measure
from analysis.wording import Row

# Okabe & Ito's palette: told apart with every common colour blindness; its yellow is left out, too pale on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
BASELINE_COLOUR = "#000000"
# The line style changes with the colour, so that a copy in grey still tells the methods apart.
LineStyle = str | tuple[int, tuple[int, ...]]
LINE_STYLES: tuple[LineStyle, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)))
_GREY = "#9a9a9a"
_GRID_POINTS = 240
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # A configuration may hold a dollar sign, and is no formula.
    "text.parse_math": False,
    "svg.fonttype": "none",
    # A fixed salt gives the same file for the same curves.
    "svg.hashsalt": "kdas-sweeps",
}

Floats = NDArray[np.float64]


def accuracy_against_cost(curves: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """Accuracy of the deciding split against reference seconds, on a logarithmic cost axis.

    Each method shows its soonest configuration: the median over seeds, the range of the seeds as a band, and a dot
    where its median time meets the target; the baseline is black. All other configurations are thin grey medians.

    Args: curves of `load`; summary of `summarize`, which orders the configurations.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 5.0), layout="constrained")
        axes = figure.add_subplot()
        evaluated = curves[curves["cost_ref_s"] > 0]
        shown = summary.drop_duplicates("method")
        hidden = summary[~summary["config_id"].isin(shown["config_id"])].drop_duplicates("config_id")
        _draw_others(axes, evaluated, hidden, measure)
        styles = itertools.cycle(zip(COLOURS, LINE_STYLES, strict=True))
        for row in shown.to_dict("records"):
            style = (BASELINE_COLOUR, "-") if row["method"] == measure.baseline else next(styles)
            _draw_method(axes, evaluated, row, measure, *style)
        _draw_target(axes, measure)
        _label(axes, measure, best_accuracy=float(evaluated[measure.deciding_column].max()))
        if len(shown):
            # Below the axes: the lines fill the plot, and any corner of it can be the one that matters.
            title = "median time to the target, reference s"
            figure.legend(title=title, loc="outside lower center", ncols=2, fontsize=8, title_fontsize=8, frameon=False)
        return figure


def to_svg(figure: Figure) -> str:
    """The figure as an <svg> element that can stand in an HTML page: no XML header, no metadata, no links."""
    written = io.StringIO()
    with matplotlib.rc_context(_STYLE):
        figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = written.getvalue()
    return svg[svg.index("<svg") :]


def seed_band(curves: pd.DataFrame, column: str) -> tuple[Floats, Floats, Floats, Floats]:
    """Median and range over trials on a common cost grid, each trial keeping its last evaluation until the next.

    A trial that has ended keeps its last accuracy to the end of the grid. The grid begins where every trial has been
    evaluated, for a band over some of the seeds would jump when the next one joins.

    Args: curves: evaluations of one configuration with costs above 0; column: the accuracy to draw.
    Returns: cost, median, lowest, highest, each [G]; empty for no evaluations.
    """
    trials = [
        (trial["cost_ref_s"].to_numpy(dtype=float), trial[column].to_numpy(dtype=float))
        for _, trial in curves.dropna(subset=[column]).groupby("trial_id")
    ]
    if not trials:
        nothing = np.empty(0)
        return nothing, nothing, nothing, nothing
    start, end = max(cost[0] for cost, _ in trials), max(cost[-1] for cost, _ in trials)
    grid = np.geomspace(start, max(start, end), _GRID_POINTS)
    # geomspace may miss its own ends by one bit, and then the first evaluation would lie beyond the grid.
    grid[0], grid[-1] = start, max(start, end)
    held = np.stack([accuracy[np.searchsorted(cost, grid, side="right") - 1] for cost, accuracy in trials])
    return grid, np.median(held, axis=0), held.min(axis=0), held.max(axis=0)


def _draw_others(axes: Axes, curves: pd.DataFrame, hidden: pd.DataFrame, measure: Measure) -> None:
    for index, config_id in enumerate(hidden["config_id"]):
        cost, median, _, _ = seed_band(curves[curves["config_id"] == config_id], measure.deciding_column)
        label = f"{wording.plural(len(hidden), 'other configuration')}" if index == 0 else None
        axes.step(cost, median, where="post", color=_GREY, linewidth=0.7, alpha=0.7, label=label, zorder=1)


def _draw_method(
    axes: Axes,
    curves: pd.DataFrame,
    row: Row,
    measure: Measure,
    colour: str,
    line_style: LineStyle,
) -> None:
    own = curves[(curves["config_id"] == row["config_id"]) & (curves["phase"] == row["phase"])]
    cost, median, lowest, highest = seed_band(own, measure.deciding_column)
    label = textwrap.fill(f"{wording.setting(row)}, {wording.seconds(float(row['tta_ref_s']))}", width=50)
    axes.step(cost, median, where="post", color=colour, linestyle=line_style, linewidth=1.8, label=label, zorder=3)
    axes.fill_between(cost, lowest, highest, step="post", color=colour, alpha=0.15, linewidth=0, zorder=2)
    tta_ref_s = float(row["tta_ref_s"])
    if np.isfinite(tta_ref_s) and tta_ref_s > 0:
        axes.plot(tta_ref_s, measure.target, "o", color=colour, markeredgecolor="white", markersize=7, zorder=5)


def _draw_target(axes: Axes, measure: Measure) -> None:
    axes.axhline(measure.target, color="#333333", linewidth=0.9, zorder=4)
    axes.annotate(
        f"target {wording.goal(measure.target)}",
        xy=(0, measure.target),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        color="#333333",
    )


def _label(axes: Axes, measure: Measure, *, best_accuracy: float) -> None:
    decided = " (it decided)" if measure.split == "test" else ""
    axes.set_ylabel(f"{measure.split} accuracy{decided}")
    axes.set_xlabel("cost, reference seconds (logarithmic)")
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=None))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    if math.isnan(best_accuracy):
        axes.text(0.5, 0.5, "no evaluation yet", transform=axes.transAxes, ha="center", color="#666666")
        return
    # What happens far below the target says nothing about reaching it, and would press the rest into a corner.
    bottom = 0.6 * min(measure.target, best_accuracy)
    axes.set_ylim(bottom=bottom)
    axes.set_xscale("log")
    axes.set_xlim(left=_first_cost_above(axes, bottom))
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda cost, _: f"{cost:g}"))
    axes.xaxis.set_minor_formatter(ticker.NullFormatter())


def _first_cost_above(axes: Axes, bottom: float) -> float | None:
    """Where the first curve comes into view, a little to the left of it; None if none does."""
    points = (np.asarray(line.get_xydata()) for line in axes.lines if len(np.asarray(line.get_xydata())) > 2)
    seen = [curve[curve[:, 1] >= bottom, 0] for curve in points]
    costs = np.concatenate([cost for cost in seen if len(cost)] or [np.empty(0)])
    return 0.9 * float(costs.min()) if len(costs) else None
