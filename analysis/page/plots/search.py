"""Results of a search: the front, progress against cost, importance, and the settings it tried."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import wording
from analysis.findings.parameters import (
    VariedParameter,
    choices_of,
    positions,
    searched_configurations,
    varied_parameters,
)
from analysis.findings.summary import fastest
from analysis.page.plots.style import (
    BASELINE_COLOUR,
    COLOURS,
    GREY,
    INK,
    MOST_DRAWN,
    RULE,
    empty,
    legend_below,
    logarithmic,
    looks,
    not_all,
    plain,
    styled,
    tagged,
)
from analysis.statistics.anytime import expected_best_curve
from analysis.wording import Row
from kdas.records import Measure

_DARK, _BRIGHT = COLOURS[0], COLOURS[1]


@styled
def pareto(front: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """Mean best accuracy against the mean cost to it; a point is larger if resampled seeds keep it on the front.

    Args: front: of `analysis.findings.pareto.pareto_front`; summary: orders the methods.
    """
    if front.empty:
        return empty("No configuration has run to its end yet.")
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axes = figure.add_subplot()
    styles = looks([*fastest(summary)["method"], *front["method"]], measure.baseline)
    named: set[str] = set()
    # If there are too many, the worst are not drawn.
    kept = front.sort_values(["is_on_front", "inclusion", "accuracy"]).tail(MOST_DRAWN)
    for row in kept.to_dict("records"):
        colour, _, marker = styles[row["method"]]
        look = {"color": colour} if row["is_on_front"] else {"color": colour, "markerfacecolor": "white", "alpha": 0.6}
        axes.plot(
            row["cost_ref_s"], row["accuracy"], marker, markersize=5 + 7 * row["inclusion"], linestyle="none", **look,
            gid=tagged(row["config_id"]),
        )  # fmt: skip
        if row["method"] not in named:
            named.add(row["method"])
            axes.plot([], [], marker, color=colour, linestyle="none", label=plain(str(row["method"]), 60))
    line = front[front["is_on_front"]].sort_values("cost_ref_s")
    axes.step(line["cost_ref_s"], line["accuracy"], where="post", color=INK, linewidth=0.9, zorder=0)
    axes.set_xlabel("mean cost to the best accuracy, reference seconds (logarithmic)")
    axes.set_ylabel(f"mean best {measure.split} accuracy")
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{share * 100:.4g}%"))
    axes.grid(color=RULE, linewidth=0.6)
    logarithmic(axes, "x")
    title = f"filled: on the front; larger: on the front for more resampled seeds{not_all(len(front))}"
    legend_below(figure, 4, title)
    return figure


@styled
def anytime(curve: pd.DataFrame, reference: Row | None = None) -> Figure:
    """The best configuration so far against the cost of the search.

    Args: curve: of `analysis.findings.anytime.anytime_curve`; reference: a plain setting to compare with, of the
        summary.
    """
    if curve.empty:
        return empty("No configuration has ended on all its seeds yet.")
    figure = Figure(figsize=(7.6, 3.8), layout="constrained")
    axes = figure.add_subplot()
    # Evenly over the search, to keep the shape.
    kept = np.unique(np.linspace(0, len(curve) - 1, min(len(curve), MOST_DRAWN)).round().astype(int))
    for row in curve.iloc[kept].to_dict("records"):
        axes.plot(row["spent_ref_s"], row["value_s"], "o", color=GREY, markersize=4, gid=tagged(row["config_id"]))
    axes.plot([], [], "o", color=GREY, markersize=4, label=f"one configuration, mean over seeds{not_all(len(curve))}")
    axes.step(curve["spent_ref_s"], curve["best_s"], where="post", color=_DARK, linewidth=1.8, label="best so far")
    _draw_reference(axes, reference)
    axes.set_xlabel("cost of the search so far, all trials, reference seconds")
    axes.set_ylabel("mean restricted time, ref s")
    axes.set_xlim(left=0)
    axes.grid(color=RULE, linewidth=0.6)
    logarithmic(axes, "y")
    legend_below(figure, 3)
    return figure


@styled
def expected_best_of(curve: pd.DataFrame, reference: Row | None = None) -> Figure:
    """The expected best of n tries like those of the search.

    Args: curve: of `analysis.findings.anytime.anytime_curve`; reference: as in `anytime`.
    """
    if curve.empty:
        return empty("No configuration has ended on all its seeds yet.")
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    expected = expected_best_curve(curve["value_s"].tolist())
    axes.plot(np.arange(1, len(expected) + 1), expected, color=_DARK, linewidth=1.8, label="expected best")
    _draw_reference(axes, reference)
    axes.set_xlabel("configurations tried")
    axes.set_ylabel("mean restricted time, ref s")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.grid(color=RULE, linewidth=0.6)
    legend_below(figure, 2)
    return figure


def _draw_reference(axes: Axes, reference: Row | None) -> None:
    if reference is not None:
        time_s, name = reference["mean_upper_s"], wording.named(reference)
        axes.axhline(time_s, color=BASELINE_COLOUR, linewidth=0.9, linestyle="--", label=name)


@styled
def importance(table: pd.DataFrame) -> Figure:
    """Importance of each parameter, with the range of its rank over resampled configurations.

    Args: table: of `analysis.findings.importance.importance`.
    """
    figure = Figure(figsize=(7.6, 1.1 + 0.36 * len(table)), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(table["parameter"], table["importance"], color=_DARK, height=0.6)
    for place, row in enumerate(table.to_dict("records")):
        low, high = row["rank_low"], row["rank_high"]
        ranks = f"rank {low:g}" if low == high else f"rank {low:g} to {high:g}"
        axes.annotate(
            ranks, xy=(row["importance"], place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8
        )
    axes.invert_yaxis()
    axes.set_xlabel("importance for the time to the target (PED-ANOVA); ranks in 95% of the resamples")
    axes.xaxis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0))
    axes.set_xlim(0, max(1.18 * float(table["importance"].max()), 0.1))
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    return figure


@styled
def parallel_coordinates(trials: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """Every searched configuration as a line through its settings to its mean restricted time, the fastest in colour.

    Args: trials: the trial table, for the settings; summary: of `analysis.findings.summary.summarize`, for the times.
    """
    configurations = searched_configurations(trials)
    parameters = varied_parameters(configurations, measure.log_parameters)
    searched = summary[(summary["phase"] == "search") & summary["is_searched"].astype(bool)]
    time_s = searched.set_index("config_id")["mean_upper_s"].reindex(configurations.index).dropna()
    if not parameters or time_s.empty:
        return empty("No searched configuration has been evaluated yet.")
    configurations = configurations.loc[time_s.index]
    low, high = float(time_s.min()), float(time_s.max())
    result = (time_s - low) / (high - low) if high > low else time_s * 0 + 0.5
    places = pd.concat([*(positions(configurations, each) for each in parameters), result], axis=1).to_numpy(float)
    figure = Figure(figsize=(max(7.6, 1.3 * places.shape[1]), 4.4), layout="constrained")
    axes = figure.add_subplot()
    num_best = max(1, len(time_s) // 10)
    order = np.argsort(time_s.to_numpy(), kind="stable")
    for rank, place in reversed(list(enumerate(order[:MOST_DRAWN]))):
        is_best = rank < num_best
        axes.plot(
            np.arange(places.shape[1]), places[place], color=_BRIGHT if is_best else GREY,
            linewidth=1.6 if is_best else 0.7, alpha=0.95 if is_best else 0.45, marker="o" if is_best else None,
            markersize=3, zorder=3 if is_best else 1, gid=tagged(str(time_s.index[place])),
        )  # fmt: skip
    for place, parameter in enumerate(parameters):
        _scale(axes, place, parameter, configurations)
    _ends(axes, len(parameters), [f"{low:.3g}", f"{high:.3g}"])
    names = [*(each.name + (" (log)" if each.is_log else "") for each in parameters), "mean time, ref s"]
    axes.set_xticks(range(len(names)), names, fontsize=8, rotation=12 if len(names) > 5 else 0)
    axes.set_yticks([])
    axes.set_ylim(-0.12, 1.12)
    axes.spines["left"].set_visible(False)
    axes.set_title(
        f"in colour: the fastest tenth, {num_best} of {len(order):,}{not_all(len(order))}", loc="left", fontsize=8
    )
    return figure


def _scale(axes: Axes, place: int, parameter: VariedParameter, configurations: pd.DataFrame) -> None:
    """A vertical axis with its ends labelled; a categorical parameter shows all its values."""
    if parameter.is_number:
        values = configurations[parameter.column].astype("float64")
        _ends(axes, place, [f"{values.min():.3g}", f"{values.max():.3g}"])
        return
    axes.axvline(place, color=INK, linewidth=0.8, ymin=0.1, ymax=0.9)
    choices = choices_of(configurations, parameter)
    for index, choice in enumerate(choices):
        height, text = index / (len(choices) - 1), plain(choice, 30)
        axes.text(place + 0.03, height, text, fontsize=7, va="center", color=INK, bbox={"color": "white", "pad": 0.6})


def _ends(axes: Axes, place: int, texts: list[str]) -> None:
    axes.axvline(place, color=INK, linewidth=0.8, ymin=0.1, ymax=0.9)
    for height, text in zip((-0.06, 1.06), texts, strict=True):
        axes.text(place, height, text, fontsize=8, ha="center", va="center", color=INK)
