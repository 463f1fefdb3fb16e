"""`python -m analysis report RUNS_DIR/NAME`: write the report of a sweep and print its answer.

`python -m analysis store URI --out DIR`: create a sweep directory from an MLflow store.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdas.errors import UserError, run_command_line

# What takes long to import is imported within the commands, where Ctrl-C ends them without a traceback.
if TYPE_CHECKING:
    from analysis.findings.gather import Findings
    from analysis.page import tables

# A pipe or a log has no width. This one fits the table without folding most configurations.
PLAIN_WIDTH = 160

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Report what the curves of a sweep show.",
)


@app.callback()
def room() -> None:
    """Report what the curves of a sweep show."""


@app.command()
def report(
    sweep_directory: Annotated[Path, typer.Argument(metavar="RUNS_DIR/NAME", help="Directory of the sweep.")],
    target: Annotated[
        str | None, typer.Option(metavar="FRACTION", help="Another target accuracy; its files get its name.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the report without printing.")] = False,
) -> None:
    """Write RUNS_DIR/NAME/report.html, report.md, answer.json and summary.csv, and print table and answer."""
    from analysis.findings.gather import findings
    from analysis.page.report import write

    found = findings(sweep_directory, None if target is None else _fraction(target))
    try:
        path = write(found, sweep_directory)
    except OSError as error:
        reason = f"{error.filename or sweep_directory}: cannot be written: {error.strerror}"
        raise UserError(f"{reason}. Make the folder writable.") from error
    if not quiet:
        show(found, path, _console())


@app.command()
def table(
    sweep_directory: Annotated[Path, typer.Argument(metavar="RUNS_DIR/NAME", help="Directory of the sweep.")],
    form: Annotated[str, typer.Option("--format", help="latex, markdown or csv.")] = "markdown",
) -> None:
    """Print a table for a paper: accuracy, cost, ratio, seeds."""
    from analysis.findings.gather import findings
    from analysis.page.paper import paper_table

    print(paper_table(findings(sweep_directory), form), end="")


@app.command()
def compare(
    sweep_directories: Annotated[
        list[Path], typer.Argument(metavar="DIR DIR...", help="Directories of two or more sweeps.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="HTML page to write.")],
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the page without printing.")] = False,
) -> None:
    """Compare sweeps on one page, and print the common answer."""
    from analysis.findings.gather import findings
    from analysis.findings.overview import overview
    from analysis.page import tables
    from analysis.page.report import write_overview

    every = [findings(directory) for directory in sweep_directories]
    found = overview(every)
    reports = {
        each.measure.sweep: folder / "report.html" for each, folder in zip(every, sweep_directories, strict=True)
    }
    links = {name: os.path.relpath(page, out.parent) for name, page in reports.items() if page.is_file()}
    try:
        write_overview(found, out, links)
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}. Choose another --out.") from error
    if quiet:
        return
    console = _console()
    console.print(_grid(tables.table(tables.cell_columns(), found.cells), "Sweep by sweep"))
    console.print(Text(found.answer, style="bold"))
    console.print(Text(found.scores))
    for caution in found.cautions:
        console.print(Text(f"note: {caution}", style="yellow"))
    console.print(Text(str(out)), soft_wrap=True)


@app.command()
def store(
    uri: Annotated[str, typer.Argument(metavar="URI", help="MLflow's database: an SQLAlchemy URL or a file.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Sweep directory to create.")],
    experiment: Annotated[str, typer.Option(help="Experiment to read; '' reads all.")] = "kdas-sweeps",
    sweep: Annotated[str | None, typer.Option(help="Sweep to read, if the store has several.")] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=SOURCE", help="Source of a column: val_accuracy=metrics.acc; repeat."),
    ] = None,
    target: Annotated[float | None, typer.Option(help="Target accuracy, a fraction.")] = None,
    baseline: Annotated[str | None, typer.Option(help="Method to compare the others with.")] = None,
    tau: Annotated[float | None, typer.Option(help="Budget of a trial, in the unit of its cost.")] = None,
) -> None:
    """Create a sweep directory from an MLflow store, for `report` and `compare`."""
    try:
        # Imported here, since the other commands need no database library.
        from analysis.mlflow_store import load_store, named, write_store
    except ModuleNotFoundError as error:
        needed = "python -m pip install sqlalchemy adbc-driver-sqlite"
        raise UserError(f"store: {error.name} is not installed. Run: {needed}") from error

    stored = load_store(
        uri,
        experiment=experiment or None,
        sweep=sweep,
        names=named(name or []),
        target=target,
        baseline=baseline,
        budget_ref_s=tau,
    )
    write_store(stored, out)
    for note in stored.notes:
        print(f"note: {note}")
    num_trials, num_rows = len(stored.trials), len(stored.curves)
    print(f"{num_trials:,} trials, {num_rows:,} evaluations. Next: python -m analysis report {shlex.quote(str(out))}")


def show(found: Findings, path: Path, console: Console) -> None:
    """Print the table, the answer, its cautions, and the path of the report."""
    from analysis.page import tables

    shown, later = tables.main_rows(found.summary)
    content = tables.table(tables.terminal_columns(found.summary, found.measure), shown)
    if content.rows:
        console.print(_grid(content, found.measure.sweep))
        order = "Ordered by the mean over seeds; a miss counts as the full budget. Intervals hold for a phase together."
        console.print(order, style="dim", soft_wrap=True)
    if len(later):
        console.print(f"{len(later)} more searched configurations are in the report.", style="dim")
    if len(found.crossed):
        console.print(_grid(tables.crossed_table(found.crossed, found.measure), "Losses by samplers"))
        console.print(f"Times as fast as {found.measure.baseline}, to the same target.", style="dim")
    console.print(Text(found.answer.headline, style="bold"))
    for sentence in found.answer.short:
        console.print(Text(sentence))
    for caution in found.cautions:
        if caution.place in ("answer", "table"):
            console.print(Text(f"note: {caution.text}", style="yellow"))
    # Not wrapped, so that it can be clicked or copied.
    console.print(Text(str(path)), soft_wrap=True)


def _fraction(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UserError(f"target: expected a fraction in (0, 1], got {text!r}. Write 0.95 for 95%.") from error


def _console() -> Console:
    # Names may hold what Rich would take for markup.
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _grid(content: tables.Table, title: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, title=Text(title), title_justify="left", pad_edge=False)
    for column in content.columns:
        # Folded, never cut: a cut number would be wrong.
        grid.add_column(column.header, justify="right" if column.is_number else "left", overflow="fold")
    for row in content.rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid


if __name__ == "__main__":
    run_command_line(app)
