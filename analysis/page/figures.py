"""The figures of a report on one sweep, with what a reader must know to read them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure as Drawn

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.importance import DRAWS_AT_RANDOM
from analysis.findings.summary import deciding_phase
from analysis.page import plots, tables


@dataclass(frozen=True)
class Figure:
    """`svg` stands in a page as it is; `title` is for those who cannot see it."""

    title: str
    caption: str
    svg: Markup


def figures(found: Findings) -> dict[str, Figure]:
    """All figures by name; what the sweep has no data for is left out."""
    curves, summary, measure = found.curves, found.summary, found.measure
    phase = deciding_phase(summary)
    deciding = summary[summary["phase"] == phase]
    drawn = {
        "forest": figure(
            "forest",
            plots.forest(tables.main_rows(deciding)[0], measure),
            f"Ratios of the time to accuracy to that of {measure.baseline}, with intervals",
            f"Phase {phase}. An arrow above a point: a miss leaves that side open. An arrowhead at the end of a "
            "line: the interval goes on. A broad bar: trials ended before "
            "their time was known, and the ratio of times up to the budget lies in it.",
        ),
        "accuracy": _accuracy(found, "cost_ref_s"),
        "accuracy_by_wall": _accuracy(found, "wall_s"),
        "accuracy_by_flops": _accuracy(found, "flops"),
        "target": figure(
            "target",
            plots.time_against_target(curves, summary, measure),
            "Median time to every other target",
            "The same settings held against other targets. Where lines cross, the answer depends on the target; where "
            "one ends, half of its seeds or more did not get there.",
        ),
        "reached": figure(
            "reached",
            plots.fraction_reached(found.times, summary, measure),
            "Share of seeds that has reached the target by a cost",
            "Of each method the soonest configuration; below, how many of its seeds are still on their way. Those of "
            "which a trial was stopped for its own accuracy have no such curve.",
        ),
    }
    return drawn | _of_the_search(found) | _of_other_questions(found)


def _of_the_search(found: Findings) -> dict[str, Figure]:
    if found.anytime.empty:
        return {}
    measure = found.measure
    drawn = {
        "anytime": figure(
            "anytime",
            plots.anytime(found.anytime, measure, found.baseline_s),
            "The best configuration so far against all that was spent",
            "Every trial of the search is charged, losers included; a configuration counts when its last seed has "
            "ended, and one that was stopped at the most it can cost.",
        ),
        "parallel": figure(
            "parallel",
            plots.parallel_coordinates(found.trials, found.summary, measure),
            "Settings of all searched configurations and their mean time",
            "A line is a configuration, from its settings to its mean restricted time (bottom right: soonest).",
        ),
    }
    if measure.algorithm in DRAWS_AT_RANDOM:
        drawn["best_of"] = figure(
            "best_of",
            plots.expected_best_of(found.anytime, measure, found.baseline_s),
            "Expected best of fewer configurations",
            "What so many configurations drawn like these would have found on average; one that was stopped enters at "
            "the most it can cost.",
        )
    if not found.importance.empty:
        drawn["importance"] = figure(
            "importance",
            plots.importance(found.importance),
            "Importance of the searched parameters",
            "How differently a parameter is distributed among the best configurations and among all.",
        )
    return drawn


def _of_other_questions(found: Findings) -> dict[str, Figure]:
    drawn = {}
    if not found.front.empty:
        drawn["pareto"] = figure(
            "pareto",
            plots.pareto(found.front, found.summary, found.measure),
            "Accuracy and cost of all configurations",
            "Each configuration’s mean best accuracy and the mean cost at which it was first seen, in the phase that "
            "decides. One with a trial that was stopped, crashed or diverged is left out.",
        )
    if not found.picks.empty:
        drawn["picked"] = figure(
            "picked",
            plots.picked(found.picks, found.summary, found.measure),
            "What the samplers picked, by class and by the teacher's confidence",
            f"Relative to {found.measure.baseline}, which trains on everything; grey: too few samples to tell. "
            "Windows of epochs from left to right.",
        )
    return drawn


def _accuracy(found: Findings, cost: str) -> Figure:
    caption = (
        "Lines are medians over seeds, bands their range; each trial keeps its last evaluation until its next one, and "
        "its final one to the end. Of each method the soonest configuration is drawn in colour."
    )
    if cost == "cost_ref_s":
        caption += " A dot marks a method’s median time to the target, where that is known."
    if cost == "wall_s" and (num_shared := int((found.times["max_cotenants"] > 0).sum())):
        shared = wording.plural(num_shared, "trial")
        caption += f" {shared} shared a device: these seconds measure the neighbours too."
    return figure(
        f"accuracy_{cost}",
        plots.accuracy_against_cost(found.curves, found.summary, found.measure, cost),
        f"Accuracy against {plots.COST_AXES[cost]}, one line for each method, with the target",
        caption,
    )


def figure(name: str, drawn: Drawn, title: str, caption: str) -> Figure:
    """A drawn figure as a part of a page. Args: name: unique on the page."""
    # matplotlib wrote this and escaped its own texts; escaping it again would show its source.
    return Figure(title, caption, Markup(plots.to_svg(drawn, name)))  # noqa: S704
