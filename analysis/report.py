"""The report of a sweep: one HTML file that needs nothing else, and opens with the answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import plots, tables, wording
from analysis.answer import Answer, answer
from analysis.cautions import Caution, cautions
from analysis.curves import load, load_trials
from analysis.measure import Measure, load_environment, load_measure
from analysis.summary import summarize_times
from analysis.trial_times import trial_times

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Findings:
    """Everything that a sweep directory says, computed once, so that all outputs agree."""

    measure: Measure
    curves: pd.DataFrame
    times: pd.DataFrame
    summary: pd.DataFrame
    answer: Answer
    cautions: tuple[Caution, ...]
    environment: dict[str, str]
    sweep_text: str


def findings(sweep_directory: Path | str) -> Findings:
    """Load a sweep directory and compute what the report and the terminal show.

    Raises: UserError: if a table is missing, cut short or of another shape.
    """
    directory = Path(sweep_directory)
    curves, trials, measure = load(directory), load_trials(directory), load_measure(directory)
    times = trial_times(curves, trials, measure)
    summary = summarize_times(times, measure)
    won = answer(summary, measure)
    sweep_file = directory / "sweep.yaml"
    return Findings(
        measure=measure,
        curves=curves,
        times=times,
        summary=summary,
        answer=won,
        cautions=tuple(cautions(summary, times, curves, trials, measure, won)),
        environment=load_environment(directory),
        sweep_text=sweep_file.read_text(encoding="utf-8") if sweep_file.is_file() else "",
    )


def render(found: Findings) -> str:
    """The report as one HTML page: styles and figure inline, no script, nothing loaded from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown, later = tables.main_rows(found.summary)
    columns = tables.summary_columns(found.summary, found.measure)
    reached = found.summary[found.summary["num_reached"] > 0]
    figure = plots.to_svg(plots.accuracy_against_cost(found.curves, found.summary, found.measure))
    return environment.get_template("report.html.j2").render(
        found=found,
        measure=found.measure,
        facts=_facts(found),
        # matplotlib wrote this and escaped its own texts; escaping it again would show its source.
        figure=Markup(figure),  # noqa: S704
        summary_table=tables.table(columns, shown),
        later_table=tables.table(columns, later),
        sensitivity_table=tables.table(tables.sensitivity_columns(found.summary), reached),
        indicator_table=tables.table(tables.indicator_columns(found.summary), reached),
        trial_table=tables.table(tables.trial_columns(found.times, found.measure), found.times),
        winner_rows=_winner_rows(found, shown),
        cautions_at={
            place: [caution.text for caution in found.cautions if caution.place == place]
            for place in ("answer", "table", "figure", "trials")
        },
    )


def write(found: Findings, path: Path) -> None:
    """Write the report in one step: a reader sees the old one or the new one, never half of it."""
    half_written = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        half_written.write_text(render(found), encoding="utf-8")
        half_written.replace(path)
    finally:
        half_written.unlink(missing_ok=True)


def _facts(found: Findings) -> list[tuple[str, str, str]]:
    """The terms of the sweep: label, value, and a note to it."""
    measure = found.measure
    return [
        ("Target", f"{wording.goal(measure.target)} {measure.split} accuracy", measure.target_rule),
        ("Budget", f"{wording.amount(measure.tau_ref_s)} reference s", f"calibration {measure.calibration_id}"),
        ("Baseline", measure.baseline, f"the {measure.split} split decided"),
        (
            "Seeds",
            wording.seeds(measure.seeds),
            wording.plural(len(found.times), "trial") + f" of {measure.num_planned_trials} planned",
        ),
        ("Data", measure.data_source, ", ".join(sorted(set(found.curves["dataset"])))),
    ]


def _winner_rows(found: Findings, shown: pd.DataFrame) -> list[int]:
    """Positions in the summary table of the row that the answer names."""
    won = (shown["config_id"] == found.answer.config_id) & (shown["phase"] == found.answer.phase)
    return [position for position, is_winner in enumerate(won) if is_winner]
