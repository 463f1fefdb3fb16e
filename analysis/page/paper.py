"""The table for a paper: accuracy, cost, ratio and number of seeds of each setting, in LaTeX, Markdown or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from analysis import wording
from analysis.findings.cautions import unfinished
from analysis.findings.gather import Findings
from analysis.findings.summary import deciding_phase, reference_name
from analysis.page.published import published
from analysis.wording import Row
from kdas.errors import UserError

FORMATS = ("latex", "markdown", "csv")


def paper_table(found: Findings, form: str) -> str:
    """The settings of the deciding phase, in LaTeX, Markdown or CSV. Published accuracies of the pair follow.

    A caption says what is measured, and what the numbers are not yet: confirmed, or those of a finished sweep. In CSV,
    which has no place for one, each row says it in its last columns.

    Raises: UserError: for another format.
    """
    if form not in FORMATS:
        raise UserError(f"format: expected one of {', '.join(FORMATS)}, got {form!r}. Write FORMAT=latex.")
    deciding = found.summary[found.summary["phase"] == deciding_phase(found.summary)]
    reference = reference_name(deciding, found.measure)
    header = ["method", "tuned", "test accuracy", "cost, ref s", f"ratio to {reference} [95%]", "n"]
    chosen = _rows(found)
    rows = [_cells(row) for row in chosen] + _published(found)
    if len({row["method"] for row in chosen}) < len(chosen):
        header.insert(1, "settings")
        settings = [str(row["configuration"] or wording.NOTHING) for row in chosen]
        settings += [wording.NOTHING] * (len(rows) - len(settings))  # of published rows
        for cells, text in zip(rows, settings, strict=True):
            cells.insert(1, text)
    if form == "csv":
        terms = [f"{wording.goal(found.measure.target)} {found.measure.split} accuracy", "; ".join(_state(found))]
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows(
            [[*header, "cost to reach", "state"], *([*cells, *terms] for cells in rows)]
        )
        return written.getvalue()
    return _markdown(header, rows, found) if form == "markdown" else _latex(header, rows, found)


def _state(found: Findings) -> list[str]:
    """Why the numbers may still change, or what they are of; none for what is final."""
    ended = unfinished(found.trials, found.measure)
    is_search = deciding_phase(found.summary) == "search" and found.summary["is_searched"].any()
    return [
        *([f"not finished: {ended}"] if ended else []),
        *(["search phase, not confirmed on fresh seeds"] if is_search else []),
    ]


def _rows(found: Findings) -> list[Row]:
    deciding = found.summary[found.summary["phase"] == deciding_phase(found.summary)]
    return [row for row in deciding.to_dict("records") if row["num_trials"] > row["num_running"]]


def _cells(row: Row) -> list[str]:
    """Accuracy is that of trials which ran to their end; cost is the mean time to the target."""
    return [
        wording.named(row), wording.tuned(row), wording.final(row), wording.mean_time(row), wording.ratio(row),
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


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]], found: Findings) -> str:
    def escaped(text: str) -> str:
        return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", text)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(escaped, cells)) + " |"

    marks = "|".join("--:" if number >= len(header) - _NUMBERS else "---" for number in range(len(header)))
    return "\n".join([escaped(" ".join(_caption(found))), "", line(header), f"|{marks}|", *map(line, rows)]) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "∞": r"$\infty$", "≥": r"$\geq$",
    ">": "$>$", "<": "$<$", "–": "--", "·": r"$\cdot$",
}  # fmt: skip


# The last columns hold numbers.
_NUMBERS = 4
_LEGEND = (
    "test accuracy: mean ± standard deviation over the trials that ran to their end.",
    "cost: mean reference seconds to the target, a miss counts as the full budget.",
    "ratio: above 1x is faster; where the interval includes 1 it is first, and no difference is shown.",
    "<=, >=, ~: the setting, the reference, or both missed; a range: trials ended early.",
    "n: seeds.",
)


def _caption(found: Findings) -> list[str]:
    """What the table shows, in sentences."""
    num_comparisons = max(len(_rows(found)) - 1, 1)
    together = f"95% intervals for all {num_comparisons} comparisons together, at this target"
    state = [f"{text[0].upper()}{text[1:]}." for text in _state(found)]
    goal = f"{wording.goal(found.measure.target)} {found.measure.split} accuracy"
    return [*state, f"Time to {goal}; {together}.", *_LEGEND]


def _latex(header: Sequence[str], rows: Sequence[Sequence[str]], found: Findings) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(_LATEX.get(letter, letter) for letter in cell) for cell in cells) + r" \\"

    note = [f"% {sentence}" for sentence in _caption(found)]
    lines = [line(header), r"\hline", *map(line, rows)]
    begin = rf"\begin{{tabular}}{{{'l' * (len(header) - _NUMBERS)}{'r' * _NUMBERS}}}"
    return "\n".join([*note, begin, r"\hline", *lines, r"\hline", r"\end{tabular}"]) + "\n"
