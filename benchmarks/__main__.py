"""`python -m benchmarks`: how fast we are against the field's usual trainer, and against a bound that none can beat.

Progress goes to standard error. The table goes to standard output; its last line is a JSON object with every figure.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.against_reference import against_reference
from benchmarks.analysis_speed import analysis_speed
from benchmarks.answer import answer
from benchmarks.bench import Bench, Figures
from benchmarks.first_trial import first_trial
from benchmarks.images import SHARED_DATA
from benchmarks.limit import limit
from benchmarks.machine import best_precision, facts, load
from benchmarks.memory import memory
from benchmarks.orchestration import orchestration
from benchmarks.reference_loop import DEFAULT_THREADS
from benchmarks.scale import scale
from benchmarks.sweep import sweep
from kdas.compute import device as devices
from kdas.errors import UserError, run_command_line


@dataclass(frozen=True)
class Part:
    """A benchmark by name: what it measures, and the function that returns its figures by name."""

    what: str
    measure: Callable[[Bench], Figures]


# To add a part, write a function in a module beside this one and add a line here. The names of figures end in units.
PARTS = {
    "against_reference": Part("whole trials, ours against the field's usual trainer", against_reference),
    "sweep": Part("a sweep of 16 trials, including the bank, against 16 runs of the usual trainer", sweep),
    "first_trial": Part("how long a user waits until the first trial trains", first_trial),
    "answer": Part("what the answer of a search costs, on recorded curves", answer),
    "orchestration": Part("what a trial costs besides its training", orchestration),
    "scale": Part("what a sweep of many trials costs in driver time, memory, disk and reading", scale),
    "analysis_speed": Part("times to accuracy from our tables, against MLflow's client", analysis_speed),
    "limit": Part("the cost of the student alone, divided by the time of our trainer", limit),
    "memory": Part("memory of a process that runs a trial on a set of CIFAR's size", memory),
}

# A load over the last minute above this means that other work is running.
_BUSY = 0.5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    name: Annotated[str | None, typer.Argument(help=f"Part to run alone: {', '.join(PARTS)}.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Use small sets and few repetitions; noisy.")] = False,
    data: Annotated[Path, typer.Option(help="Folder with train.parquet and test.parquet.")] = SHARED_DATA,
    precision: Annotated[str, typer.Option(help="Precision of our trials: auto, float32 or bfloat16.")] = "auto",
) -> None:
    """Measure, then print a table and one line of JSON."""
    if name is not None and name not in PARTS:
        raise UserError(f"benchmarks: expected one of {', '.join(PARTS)}, got {name!r}.")
    if precision not in ("auto", "float32", "bfloat16"):
        raise UserError(f"benchmarks: --precision: expected auto, float32 or bfloat16, got {precision!r}.")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kdas-benchmarks-") as folder:
        # The user's cache is neither used nor changed.
        os.environ["KDAS_CACHE"] = str(Path(folder) / "cache")
        Path(os.environ["KDAS_CACHE"]).mkdir()
        bench = _bench(Path(folder), quick, data, precision, began)
        load_before = load()
        if load_before > _BUSY:
            bench.progress(f"other work is running (load {load_before}): threads wait for it, so figures are noisy")
        measured = {each: _measured(bench, each) for each in ([name] if name else PARTS)}
    about: dict[str, Any] = {
        "precision": bench.precision,
        "reference_precision": "float32",
        "quick": quick,
        "load_before": load_before,
        "images": "digits" if bench.data is None else bench.data.resolve().name,
        **facts(bench.device, bench.threads),
    }
    _print_table(measured, about)
    print(json.dumps({key: value for figures in measured.values() for key, value in figures.items()} | about))


def _bench(folder: Path, quick: bool, data: Path, precision: str, began: float) -> Bench:
    console = Console(stderr=True, highlight=False)

    def progress(doing: str) -> None:
        console.print(f"{time.perf_counter() - began:6.0f} s  {doing}", soft_wrap=True)

    device = devices.resolve("auto")
    if precision == "auto":
        progress("finding the faster precision on this machine")
        precision = best_precision(device)
    is_there = (data / "train.parquet").is_file() and (data / "test.parquet").is_file()
    if not is_there:
        progress(f"{data}: no train.parquet and test.parquet; using scikit-learn's digits, enlarged to 32x32")
    return Bench(folder, quick, precision, device, DEFAULT_THREADS, data if is_there else None, progress)


def _measured(bench: Bench, name: str) -> Figures:
    bench.progress(f"{name}: {PARTS[name].what}")
    figures = PARTS[name].measure(bench)
    # Already now, so that a later part that fails loses nothing.
    bench.progress(", ".join(f"{key} {shown(key, value)}" for key, value in figures.items()))
    return figures


def _print_table(measured: dict[str, Figures], about: dict[str, Any]) -> None:
    table = Table("figure", "value", box=None, padding=(0, 2, 0, 0))
    table.columns[1].justify = "right"
    for name, figures in measured.items():
        table.add_row(f"\n[bold]{name}[/]: {PARTS[name].what}", "")
        for key, value in figures.items():
            table.add_row(f"  {key}", shown(key, value))
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    console.print(
        f"\nprecision: ours {about['precision']}, reference {about['reference_precision']}; {about['threads']} threads"
        f" on both sides; {about['hardware']}, {about['device']}; torch {about['torch']}; commit {about['commit']}"
        + ("; quick: too short to quote" if about["quick"] else "")
    )


def shown(key: str, value: float) -> str:
    """A figure as text for the table, by the unit at the end of its name."""
    if key.endswith("_mb"):
        return f"{value:,.0f} MB"
    if key.endswith("_s"):
        return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.2f} ms"
    if "speedup" in key:
        return f"{value:.2f}x"
    if isinstance(value, int) or key.endswith("_entries"):
        return f"{value:,}"
    return f"{value:.3f}"


if __name__ == "__main__":
    run_command_line(app)
