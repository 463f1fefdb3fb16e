"""The share of trials that have reached the target by a given cost, and how many have not."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.figure import Figure

from analysis.findings.summary import fastest
from analysis.findings.survival import allows_survival, of_trials
from analysis.findings.trial_times import of_configuration
from analysis.page.plots.style import INK, RULE, empty, label, legend_below, looks, plain, styled, tagged
from analysis.statistics.survival import kaplan_meier
from kdas.records import Measure

_NUM_TICKS = 6


@styled
def fraction_reached(times: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """The share of seeds that have reached the target by a given cost (Kaplan-Meier), with numbers at risk below.

    Each method shows its fastest configuration. If a trial of it was stopped because of its own accuracy, the curve is
    not valid; the method is named and left out.

    Args: times: of `analysis.findings.trial_times.trial_times`; summary: orders the configurations.
    """
    shown = fastest(summary).to_dict("records")
    if not shown:
        return empty("No trial yet.")
    own = {row["method"]: of_configuration(times, row) for row in shown}
    drawn = [row for row in shown if allows_survival(own[row["method"]])]
    if not drawn:
        return empty("Every configuration has a trial that was stopped because of its accuracy, so no curve is valid.")
    figure = Figure(figsize=(7.6, 3.6 + 0.22 * len(drawn)), layout="constrained")
    axes, counts = figure.subplots(2, 1, sharex=True, height_ratios=[8, max(1.0, 0.62 * len(drawn))])
    styles = looks([row["method"] for row in shown], measure.baseline)
    ticks = [
        float(t)
        for t in ticker.MaxNLocator(_NUM_TICKS).tick_values(0, measure.budget_ref_s)
        if 0 <= t <= measure.budget_ref_s
    ]
    for place, row in enumerate(drawn):
        costs, observed = of_trials(own[row["method"]])
        curve = kaplan_meier(costs, observed)
        colour, line_style, _ = styles[row["method"]]
        ends = np.concatenate([[0.0], curve.cost, [max(float(costs.max()), *curve.cost.tolist(), 0.0)]])
        reached = 1 - np.concatenate([[1.0], curve.share, curve.share[-1:] if len(curve.share) else [1.0]])
        axes.step(
            ends, reached, where="post", color=colour, linestyle=line_style, linewidth=1.8, label=label(row),
            gid=tagged(row["config_id"]),
        )  # fmt: skip
        for tick in ticks:
            counts.text(tick, place, str(int((costs >= tick).sum())), ha="center", va="center", color=INK)
    axes.set_ylabel("share of seeds at the target")
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(xmax=1, decimals=0))
    axes.set_ylim(-0.02, 1.04)
    axes.set_xlim(-0.04 * measure.budget_ref_s, 1.03 * measure.budget_ref_s)
    axes.grid(color=RULE, linewidth=0.6)
    counts.set_ylim(len(drawn) - 0.5, -0.5)
    counts.set_yticks(range(len(drawn)), [plain(str(row["method"]), 30) for row in drawn])
    counts.tick_params(length=0)
    counts.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    for spine in counts.spines.values():
        spine.set_visible(False)
    counts.set_title("not yet at the target", loc="left", fontsize=8)
    counts.set_xlabel("cost, reference seconds")
    left_out = [str(row["method"]) for row in shown if row not in drawn]
    note = f"left out, stopped because of their accuracy: {', '.join(left_out)}" if left_out else None
    legend_below(figure, 2, note)
    return figure
