"""The report of a sweep: one self-contained HTML file, a Markdown version, the answer as JSON, the summary as CSV."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.overview import Overview, baseline_of
from analysis.findings.summary import deciding_phase, reference_name
from analysis.page import plots, tables
from analysis.page.answer_file import answer_json
from analysis.page.figures import figure, figures
from analysis.page.numbers import numbers
from analysis.record.measure import price_facts, teacher_accuracy

_TEMPLATES = Path(__file__).parent / "templates"


def render(found: Findings) -> str:
    """The report as one HTML page with inline styles, figures and script; it loads nothing else."""
    shown, later = tables.main_rows(found.summary)
    columns = tables.summary_columns(found.summary, found.measure)
    reached = shown[shown["num_reached"] > 0]
    drawn = figures(found)
    return _page(
        "report.html.j2",
        found=found,
        measure=found.measure,
        facts=_facts(found),
        reference=reference_name(found.summary, found.measure),
        figures=drawn,
        numbers=numbers(found.measure),
        names={str(row["config_id"]): wording.setting(row) for row in found.summary.to_dict("records")},
        script=_script(),
        summary_table=tables.table(columns, shown),
        later_table=tables.table(columns, later),
        crossed_table=tables.crossed_table(found.crossed, found.measure),
        sensitivity_table=tables.table(tables.sensitivity_columns(found.summary), reached),
        indicator_table=tables.table(tables.indicator_columns(found.summary), reached),
        timing_table=tables.table(tables.timing_columns(), found.timing),
        trial_table=tables.table(tables.trial_columns(found.times, found.measure), found.times),
        winner_rows=_winner_rows(found, shown),
        cautions_at=_cautions_by_place(found),
    )


def render_markdown(found: Findings) -> str:
    """Answer, warnings and tables in Markdown, for a pull request or an issue."""
    columns = tables.summary_columns(found.summary, found.measure)
    shown, later = tables.main_rows(found.summary)
    reached = shown[shown["num_reached"] > 0]
    return _page(
        "report.md.j2",
        found=found,
        measure=found.measure,
        facts=_facts(found),
        reference=reference_name(found.summary, found.measure),
        num_later=len(later),
        summary_table=tables.table(columns, shown),
        crossed_table=tables.crossed_table(found.crossed, found.measure),
        indicator_table=tables.table(tables.indicator_columns(found.summary), reached),
        ids_table=tables.ids_table(shown, found.times),
        cautions_at=_cautions_by_place(found),
    )


def write(found: Findings, folder: Path) -> Path:
    """Write `report.html`, `report.md`, `answer.json` and `summary.csv` into the sweep's folder. Returns: the page.

    At another target than the sweep's own, the names end in it: `report_at_0.95.html`.
    """
    at = "" if found.measure.target == found.own_target else f"_at_{found.measure.target:g}"
    page = folder / f"report{at}.html"
    write_atomically(page, render(found))
    write_atomically(folder / f"report{at}.md", render_markdown(found))
    write_atomically(folder / f"answer{at}.json", answer_json(found))
    write_atomically(folder / f"summary{at}.csv", found.summary.to_csv(index=False))
    return page


def render_overview(found: Overview, title: str, links: Mapping[str, str]) -> str:
    """Several sweeps as one page. Args: links: address of each sweep's own page, by sweep name."""
    cells = found.cells
    together = tables.main_rows(found.together)[0] if not found.apart else found.together
    measure = replace(found.sweeps[0].measure, baseline=baseline_of(found.sweeps))
    return _page(
        "overview.html.j2",
        found=found,
        title=title,
        links=links,
        names={str(row["config_id"]): wording.setting(row) for row in cells.to_dict("records")},
        script=_script(),
        cells_table=tables.table(tables.cell_columns(), cells),
        profile_table=tables.table(tables.profile_columns(), found.profiles.reset_index()),
        num_later=len(found.together) - len(together),
        together_table=tables.table(tables.summary_columns(together, found.sweeps[0].measure), together)
        if not found.apart
        else None,
        figures={
            "forest": figure(
                "forest",
                plots.forest(cells, measure),
                "Speedup over the fastest plain setting of each sweep, with intervals",
                "Each row against the fastest plain setting of its sweep. An arrowhead at the end of a line: the "
                "interval continues.",
            ),
            "profiles": figure(
                "profiles",
                plots.performance_profiles(cells, measure.baseline, "sweep"),
                "Share of sweeps in which a method is within a factor of the best",
                "Higher is better; further left is stricter. The score is the mean height from factor 1 to 4.",
            ),
        },
    )


def write_overview(found: Overview, page: Path, links: Mapping[str, str]) -> None:
    """Write the page of several sweeps, and their cells as CSV next to it."""
    is_of_cells = page.stem == "report"
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(page, render_overview(found, page.parent.name if is_of_cells else page.stem, links))
    table = page.with_name("summary.csv") if is_of_cells else page.with_suffix(".csv")
    write_atomically(table, found.cells.to_csv(index=False))


def write_atomically(path: Path, text: str) -> None:
    """Write a file atomically: a reader sees the old or the new version, never a part."""
    half_written = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        half_written.write_text(text, encoding="utf-8")
        half_written.replace(path)
    finally:
        half_written.unlink(missing_ok=True)


def _page(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["escaped"] = _escaped
    return environment.get_template(template).render(**values)


def _escaped(text: object) -> str:
    """Literal text for Markdown: on one line, with its special characters escaped."""
    return re.sub(r"([\\`*<>|\[\]])", r"\\\1", " ".join(str(text).split()))


def _script() -> Markup:
    # Our own script, without user input.
    return Markup((_TEMPLATES / "report.js").read_text(encoding="utf-8"))  # noqa: S704


def _cautions_by_place(found: Findings) -> Mapping[str, list[str]]:
    return {
        place: [caution.text for caution in found.cautions if caution.place == place]
        for place in ("answer", "table", "trials")
    }


def _facts(found: Findings) -> list[tuple[str, str, str]]:
    """The terms of the sweep: label, value and note."""
    measure = found.measure
    return [
        ("Target", f"{wording.goal(measure.target)} {measure.split} accuracy", measure.target_rule),
        ("Budget", f"{wording.amount(measure.budget_ref_s)} reference s", f"calibration {measure.calibration_id}"),
        ("Baseline", measure.baseline, _plain(found)),
        (
            "Seeds",
            wording.seeds(found.times.loc[found.times["phase"] == deciding_phase(found.summary), "seed"].tolist()),
            _trials_planned(found),
        ),
        ("Data", measure.data_source, ", ".join(sorted(found.curves["dataset"].unique()))),
        *_of_the_teacher(found),
        *_of_the_start(found),
        *_of_the_prices(found),
        *_of_the_payback(found),
    ]


def _plain(found: Findings) -> str:
    """What else counts as plain distillation."""
    others = [name for name in found.measure.plain_methods if name != found.measure.baseline]
    return f"also plain: {', '.join(others)}" if others else ""


def _of_the_teacher(found: Findings) -> list[tuple[str, str, str]]:
    """Its accuracy, where one was recorded, and the teachers of methods that have their own."""
    facts, rows = found.environment, []
    accuracy, _ = teacher_accuracy(facts)
    if not math.isnan(accuracy):
        of_members = facts.get("teacher_members", "")
        who = f"mean of {of_members}" if of_members else facts.get("teacher", "")
        rows.append(("Teacher", f"{wording.percent(accuracy)} {found.measure.split} accuracy", who))
    if others := facts.get("teachers_of_methods"):
        rows.append(("Teachers of methods", others, f"{found.measure.split} accuracy"))
    return rows


def _of_the_start(found: Findings) -> list[tuple[str, str, str]]:
    """That students do not start from random weights, where the sweep file gave some."""
    start = found.environment.get("student_start")
    return [("Students", "start from given weights", f"hash of the weights: {start}")] if start else []


def _of_the_prices(found: Findings) -> list[tuple[str, str, str]]:
    """How much rounds of measuring differed, and when they were, where that was recorded."""
    spread, measured_at, _ = price_facts(found.environment)
    if math.isnan(spread):
        return []
    return [("Prices", f"{spread:.1%} between rounds", f"measured {measured_at}" if measured_at else "")]


def _of_the_payback(found: Findings) -> list[tuple[str, str, str]]:
    """How many later trainings repay the sweep, where it found something to save."""
    repaid = found.payback
    if repaid is None or math.isinf(repaid.least):
        return []
    count, least, most = (wording.count(each) for each in (repaid.trainings, repaid.least, repaid.most))
    cost = f"the sweep's {wording.amount(repaid.cost_s)} reference s"
    if not found.answer.is_claimed:
        note = f"{least} later trainings would repay {cost} if the ratio were at the upper end of its interval"
        return [("Break-even", "not shown to pay", note)]
    note = f"later trainings to the target that repay {cost}; {least} to {most} over the interval of the ratio"
    return [("Break-even", f"{count} trainings", note)]


def _trials_planned(found: Findings) -> str:
    trials = f"{wording.plural(len(found.trials), 'trial')} of {found.measure.num_planned_trials} planned"
    phase = deciding_phase(found.summary)
    others = found.times.loc[found.times["phase"] != phase, "seed"]
    other = "the search used" if phase == "confirm" else "the confirmation has begun on"
    return f"of the answer; {other} {wording.seeds(others.tolist())}; {trials}" if len(others) else trials


def _winner_rows(found: Findings, shown: pd.DataFrame) -> list[int]:
    """Positions in the summary table of the setting that the answer claims to be faster; none if it claims nothing."""
    if not found.answer.is_claimed:
        return []
    won = (shown["config_id"] == found.answer.config_id) & (shown["phase"] == found.answer.phase)
    return [position for position, is_winner in enumerate(won) if is_winner]
