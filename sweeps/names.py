"""How a sweep is named on the command line, and where it lies, without loading what runs it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kdas.records import UserError

Name = Annotated[str, typer.Argument(help="A shipped sweep's name, or the path of a sweep file.")]
Data = Annotated[str | None, typer.Option(help="A local copy of the dataset.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE on top of the file, for example budget.trials=40; may be given again."),
]

Yes = Annotated[bool, typer.Option("--yes", help="Run it even if the estimate is over the budget.")]
Cluster = Annotated[
    str | None, typer.Option(help="The head of a Ray cluster, host:6379, instead of this machine; or RAY_ADDRESS.")
]

# Exit codes beside 0, 2 (a user's mistake, told in one line) and 1 (a mistake of ours, with its traceback).
CRASHED_TRIALS = 3
INTERRUPTED = 130

# The folder of a sweep that holds those of its cells, and the file that says what it is measured by.
CELLS, MEASURE = "cells", "measure.json"
# The phases of a sweep.
SEARCH, CONFIRM = "search", "confirm"


def runs_root() -> Path:
    """The folder of all sweeps: `RUNS_DIR`, else `runs`."""
    return Path(os.environ.get("RUNS_DIR") or "runs").expanduser().absolute()


def cluster_address() -> str:
    """The head of the Ray cluster to join: `RAY_ADDRESS`, as Ray itself has it; empty for this machine alone."""
    return os.environ.get("RAY_ADDRESS", "")


def sweep_path(name: str) -> Path:
    """Where a sweep lies: under what the user called it, or the stem of the file; `sweep/cell` is one of its cells.

    Raises: UserError: if there is no name.
    """
    if not name.strip():
        raise UserError("NAME is not given. Name a sweep: NAME=digits_kd, or the path of its file.")
    sweep, _, cell = (Path(name).stem if Path(name).suffix in {".yaml", ".yml"} else name).partition("/")
    return runs_root() / sweep / CELLS / cell if cell else runs_root() / sweep


def names_of_cells(name: str) -> list[str]:
    """The sweeps that one consists of, `sweep/cell` each, those that have begun; itself where it has no cells."""
    path = sweep_path(name)
    folder = path / CELLS
    cells = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    return [f"{path.name}/{cell}" for cell in cells] or [name]


def check_port(port: int) -> None:
    """Raises: UserError: if no server can have it. 0 stands for any that is free."""
    if not 0 <= port <= 65535:
        raise UserError(f"PORT={port}: ports go up to 65535. Give another: PORT=5001.")
