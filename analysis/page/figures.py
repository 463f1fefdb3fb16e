"""The figures of a report on one sweep, with captions that say how to read them."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure as Drawn

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.importance import DRAWS_AT_RANDOM
from analysis.findings.summary import deciding_phase, reference_name
from analysis.page import plots, tables


@dataclass(frozen=True)
class Figure:
    """`svg` is inserted into the page unchanged; `title` is for readers who cannot see it."""

    title: str
    caption: str
    svg: Markup


def figures(found: Findings) -> dict[str, Figure]:
    """All figures by name, except those for which the sweep has no data."""
    curves, summary, measure = found.curves, found.summary, found.measure
    phase = deciding_phase(summary)
    deciding = summary[summary["phase"] == phase]
    drawn = {
        "forest": figure(
            "forest",
            plots.forest(tables.main_rows(deciding)[0], measure),
            f"Speedup over {reference_name(summary, measure)} in time to accuracy, with intervals",
            f"Phase {phase}. An interval that includes 1 stands before its ratio. An arrow above a point: because of a "
            "miss, the true ratio may be further out. An "
            "arrowhead at the end of a line: the interval continues. A wide bar: some trials ended early, and the "
            "ratio of times up to the budget is somewhere in the bar.",
        ),
        "accuracy": _accuracy(found, "cost_ref_s"),
        "accuracy_by_wall": _accuracy(found, "wall_s"),
        "accuracy_by_flops": _accuracy(found, "flops"),
        "ratio_by_target": figure(
            "ratio_by_target",
            plots.ratio_against_target(found.by_target, measure, found.answer.config_id),
            "Ratio to the fastest plain setting at other targets",
            "Each method against the plain setting that is fastest at that target, from 95% to 99.5% of the best "
            "accuracy of plain distillation. The band is the interval of the setting that the answer is about, at each "
            "target by itself. Above 1 is faster.",
        ),
        "target": figure(
            "target",
            plots.time_against_target(curves, summary, measure),
            "Median time to other targets",
            "The same settings at other targets. Where lines cross, the answer depends on the target. A line ends "
            "where half of its seeds or more missed.",
        ),
        "reached": figure(
            "reached",
            plots.fraction_reached(found.times, summary, measure),
            "Share of seeds that have reached the target by a given cost",
            "Each method's fastest configuration; below, how many of its seeds are not yet at the target. A "
            "configuration with a trial that was stopped because of its accuracy has no such curve.",
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
            plots.anytime(found.anytime, found.search_reference),
            "The best configuration so far against the cost of the search",
            "All trials of the search are charged, losers included. A configuration counts once its last seed has "
            "ended; a stopped one counts at its upper bound. The best looks too good: these are the seeds "
            "it was chosen by. Dashed: the fastest plain setting.",
        ),
        "parallel": figure(
            "parallel",
            plots.parallel_coordinates(found.trials, found.summary, measure),
            "Settings and mean time of all searched configurations",
            "Each line is a configuration, from its settings to its mean restricted time (bottom right: fastest).",
        ),
    }
    if measure.algorithm in DRAWS_AT_RANDOM:
        drawn["best_of"] = figure(
            "best_of",
            plots.expected_best_of(found.anytime, found.search_reference),
            "Expected best of fewer configurations",
            "The best time that this many configurations, drawn like these, would find on average. A stopped one "
            "counts at its upper bound.",
        )
    if not found.importance.empty:
        drawn["importance"] = figure(
            "importance",
            plots.importance(found.importance),
            "Importance of the searched parameters",
            "How much a parameter's distribution among the best configurations differs from that among all.",
        )
    return drawn


def _of_other_questions(found: Findings) -> dict[str, Figure]:
    drawn = {}
    if not found.front.empty:
        drawn["pareto"] = figure(
            "pareto",
            plots.pareto(found.front, found.summary, found.measure),
            "Accuracy and cost of all configurations",
            "Each configuration’s mean best accuracy and the mean cost to it, in the deciding phase. Configurations "
            "with a trial that was stopped, crashed or diverged are left out.",
        )
    if not found.picks.empty:
        drawn["picked"] = figure(
            "picked",
            plots.picked(found.picks, found.summary, found.measure),
            "What the samplers picked, by class and by teacher confidence",
            f"Relative to {found.measure.baseline}, which trains on everything. Grey: too few samples. Windows of "
            "epochs from left to right.",
        )
    return drawn


def _accuracy(found: Findings, cost: str) -> Figure:
    caption = (
        "Lines are medians over seeds, bands their range. Each trial keeps its last accuracy until its next "
        "evaluation, and its final one to the end. Each method's fastest configuration is in colour."
    )
    if cost == "cost_ref_s":
        caption += " A dot marks a method’s median time to the target, if known."
    if cost == "wall_s" and (num_shared := int((found.times["max_cotenants"] > 0).sum())):
        shared = wording.plural(num_shared, "trial")
        caption += f" {shared} shared a device, so these seconds also measure other trials."
    return figure(
        f"accuracy_{cost}",
        plots.accuracy_against_cost(found.curves, found.summary, found.measure, cost),
        f"Accuracy against {plots.COST_AXES[cost]}, one line per method, with the target",
        caption,
    )


def figure(name: str, drawn: Drawn, title: str, caption: str) -> Figure:
    """A drawn figure as part of a page. Args: name: unique on the page."""
    # matplotlib has already escaped its texts; escaping again would show the source.
    return Figure(title, caption, Markup(plots.to_svg(drawn, name)))  # noqa: S704
