"""Methods compared with the baseline, and with each other over several cells."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import wording
from analysis.findings.summary import reference_name
from analysis.page.plots.style import (
    INK,
    RULE,
    Look,
    empty,
    label,
    legend_below,
    logarithmic,
    looks,
    plain,
    styled,
    tagged,
)
from analysis.statistics.profiles import LARGEST_RATIO, profile, ratios_to_best
from analysis.wording import Row
from kdas.records import Measure

_MOST_ROWS = 40


@styled
def forest(summary: pd.DataFrame, measure: Measure) -> Figure:
    """Ratios to the fastest plain setting with 95% intervals, one per row; an arrow if misses leave one side open.

    Args: summary: rows of `analysis.findings.summary.summarize`, of one phase, in the order to draw them. Rows of
        several sweeps need the column `cell`, the name of the sweep.
    """
    reference = reference_name(summary, measure)
    compared = summary[~summary["is_reference"].astype(bool) & summary["ratio"].notna()]
    if compared.empty:
        return empty(f"Nothing can be compared with {reference} yet.")
    rows = compared.head(_MOST_ROWS).to_dict("records")
    cut = f"; the first {_MOST_ROWS} of {len(compared)}" if len(compared) > _MOST_ROWS else ""
    figure = Figure(figsize=(7.6, 1.4 + 0.38 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    styles = looks(summary["method"], measure.baseline)
    ends = [row[name] for row in rows for name in ("ratio", "ratio_low", "ratio_high", "ratio_at_most")]
    inside = [end for end in ends if math.isfinite(end) and end > 0]
    limits = min([0.8, *inside]) / 1.15, max([1.25, *inside]) * 1.15
    for place, row in enumerate(rows):
        _draw_ratio(axes, place, row, styles[row["method"]], limits)
        axes.annotate(
            wording.ratio(row), xy=(1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=INK
        )
    axes.axvline(1, color=INK, linewidth=0.9)
    logarithmic(axes, "x")
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if limits[1] < 10 * limits[0] else (1, 3)))
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [_named(row) for row in rows], fontsize=8)
    axes.set_xlabel(f"times as fast as {reference} (right of 1 is faster)\nratio of sums, 95% interval{cut}")
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def _named(row: Row) -> str:
    cell = row.get("cell", "")
    return f"{plain(str(cell))}: {label(row, 46)}" if cell else label(row, 46)


def _draw_ratio(axes: Axes, place: int, row: Row, look: Look, limits: tuple[float, float]) -> None:
    colour, _, marker = look
    tag = tagged(str(row["config_id"]))
    low, high = row["ratio_low"], row["ratio_high"]
    if not math.isnan(low):
        shown = np.clip([low, high], *limits)
        axes.plot(shown, [place, place], color=colour, linewidth=1.6, gid=tag)
        for end, value in zip(shown, (low, high), strict=True):
            if value != end:  # it continues outside the figure
                axes.plot(end, place, "<" if value < end else ">", color=colour, markersize=7)
    first, last = (min(row[name], limits[1]) for name in ("ratio", "ratio_at_most"))
    if row["mark"] == "to":
        axes.plot([first, last], [place, place], color=colour, linewidth=5, alpha=0.45, solid_capstyle="butt")
        return
    axes.plot(first, place, marker, color=colour, markeredgecolor="white", markersize=8, gid=tag)
    if row["mark"] in (">=", "<="):
        step = 1.1 if row["mark"] == ">=" else 1 / 1.1
        axes.annotate(
            "", xy=(first * step, place - 0.28), xytext=(first, place - 0.28),
            arrowprops={"arrowstyle": "->", "color": colour},
        )  # fmt: skip


@styled
def performance_profiles(cells: pd.DataFrame, baseline: str, one: str = "cell") -> Figure:
    """For each method, the share of cells in which it is within a factor of the best.

    Args: cells: one row per method and cell: `method`, `cell`, `time` (inf for a miss); baseline: drawn in black; one:
        what a cell is called.
    """
    if cells.empty:
        return empty("No cell has been measured yet.")
    times = cells.pivot(index="method", columns="cell", values="time")
    ratios = ratios_to_best(times.to_numpy())
    factors = np.unique(np.concatenate([[1.0, LARGEST_RATIO], ratios[np.isfinite(ratios) & (ratios <= LARGEST_RATIO)]]))
    heights = np.stack([profile(ratios, factor) for factor in factors], axis=1)
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = looks(cells["method"], baseline)
    for method, height in zip(times.index, heights, strict=True):
        colour, line_style, _ = styles[method]
        axes.step(
            factors,
            height,
            where="post",
            color=colour,
            linestyle=line_style,
            linewidth=1.8,
            label=plain(str(method), 60),
        )
    axes.set_xlabel(f"factor of the best time in a {one}")
    axes.set_ylabel(f"share of {wording.plural(times.shape[1], one)} within this factor")
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlim(0.97, LARGEST_RATIO)
    axes.grid(color=RULE, linewidth=0.6)
    legend_below(figure, 3)
    return figure


@styled
def ratio_against_target(by_target: pd.DataFrame, measure: Measure, config_id: str) -> Figure:
    """Ratios to the fastest plain setting at other targets, one line per method.

    Args: by_target: of `analysis.findings.targets.OtherTargets.picture`; config_id: whose interval is drawn as a band.
    """
    if not np.isfinite(by_target["ratio"].to_numpy(dtype=float)).any():
        return empty("No method can be compared with plain distillation at other targets.")
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    styles = looks(by_target["method"], measure.baseline)
    drawn = [1.0]
    for (method, config), own in by_target.groupby(["method", "config_id"], sort=False):
        colour, line_style, _ = styles[str(method)]
        ratio = own["ratio"].to_numpy(dtype=float)
        drawn += ratio[np.isfinite(ratio) & (ratio > 0)].tolist()
        axes.plot(
            own["target"], ratio, color=colour, linestyle=line_style, linewidth=1.8, label=plain(str(method), 60),
            gid=tagged(str(config)),
        )  # fmt: skip
        if config == config_id:
            low, high = (own[name].to_numpy(dtype=float).clip(1e-3, 1e3) for name in ("low", "high"))
            axes.fill_between(own["target"], low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axhline(1, color=INK, linewidth=0.9)
    if by_target["target"].min() <= measure.target <= by_target["target"].max():
        axes.axvline(measure.target, color=INK, linewidth=0.9, linestyle=":")
    logarithmic(axes, "y")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    # A band may be open: its lines decide what is shown.
    axes.set_ylim(min(drawn) / 2, max(drawn) * 2)
    axes.set_xlabel(f"target: {measure.split} accuracy")
    axes.set_ylabel("times as fast as the fastest plain setting")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{share * 100:.4g}%"))
    axes.grid(color=RULE, linewidth=0.6)
    legend_below(figure, 3)
    return figure
