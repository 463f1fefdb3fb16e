"""The table for a paper: accuracy, cost, ratio and number of seeds of each setting, in LaTeX, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.summary import deciding_phase, reference_name
from analysis.page.published import published
from analysis.wording import Row
from kdas.errors import UserError

FORMATS = ("latex", "markdown", "csv")


def paper_table(found: Findings, form: str) -> str:
    """The settings of the deciding phase, in LaTeX, Markdown or CSV. Published accuracies of the pair follow.

    Raises: UserError: for another format.
    """
    if form not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, got {form!r}. Write FORMAT=latex.")
    reference = reference_name(found.summary, found.measure)
    header = ["method", "tuned", "test accuracy", "cost, ref s", f"ratio to {reference} [95%]", "n"]
    rows = [_cells(row) for row in _rows(found)] + _published(found)
    if form == "csv":
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([header, *rows])
        return written.getvalue()
    return _markdown(header, rows) if form == "markdown" else _latex(header, rows, found)


def _rows(found: Findings) -> list[Row]:
    deciding = found.summary[found.summary["phase"] == deciding_phase(found.summary)]
    return [row for row in deciding.to_dict("records") if row["num_trials"] > row["num_running"]]


def _cells(row: Row) -> list[str]:
    """Accuracy is that of trials which ran to their end; cost is the mean time to the target."""
    accuracy = wording.with_deviation(float(row["final_test_accuracy"]), float(row["final_test_sd"]))
    return [
        wording.named(row), wording.tuned(row), accuracy, wording.mean_time(row), wording.ratio(row),
        str(row["num_trials"]),
    ]  # fmt: skip


def _published(found: Findings) -> list[list[str]]:
    tasks = found.trials[["dataset", "pair"]].drop_duplicates().to_dict("records")
    known = published(str(tasks[0]["dataset"]), str(tasks[0]["pair"])) if len(tasks) == 1 else []
    nothing = wording.NOTHING
    return [
        [f"{one.method} (published: {one.source})", nothing, wording.percent(one.accuracy), nothing, nothing, nothing]
        for one in known
    ]


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"([\\`*_<>|\[\]])", r"\\\1", cell) for cell in cells) + " |"

    return "\n".join([line(header), "|---|---|--:|--:|--:|--:|", *map(line, rows)]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "∞": r"$\infty$", "≥": r"$\geq$",
    ">": "$>$", "<": "$<$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip


_LEGEND = """\
% test accuracy: mean +- standard deviation over the trials that ran to their end. cost: mean reference seconds to the
% target, a miss counts as the full budget. ratio: above 1x is faster; the interval is first where it includes 1, since
% then nothing is shown. <=, >=, ~: the setting, the reference, or both missed. n: seeds."""


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]], found: Findings) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    target = wording.goal(found.measure.target).replace("%", r"\%")
    num_comparisons = max(len(_rows(found)) - 1, 1)
    together = f"intervals hold for all {num_comparisons} comparisons together"
    note = f"% Time to {target} {found.measure.split} accuracy; {together}.\n{_LEGEND}"
    lines = [line(header), r"\hline", *map(line, rows)]
    return "\n".join([note, r"\begin{tabular}{llrrrr}", r"\hline", *lines, r"\hline", r"\end{tabular}"]) + "\n"
