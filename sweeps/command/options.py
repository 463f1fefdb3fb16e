"""Options that the commands share, exit codes, and the address of the cluster."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from kdas.errors import UserError

Name = Annotated[str, typer.Argument(help="Name of a shipped sweep, or path of a sweep file.")]
Data = Annotated[str | None, typer.Option(help="Folder with a local copy of the dataset.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE that overrides the file; may be repeated."),
]

Yes = Annotated[bool, typer.Option("--yes", help="Start even if the estimate exceeds the budget.")]
Cluster = Annotated[str | None, typer.Option(help="Head of a Ray cluster, host:6379; default: RAY_ADDRESS.")]

# Exit codes besides 0, 2 (a user's mistake, in one line) and 1 (a bug of ours, with its traceback).
CRASHED_TRIALS = 3
INTERRUPTED = 130


def cluster_address() -> str:
    """The head of the Ray cluster to join, from Ray's own variable `RAY_ADDRESS`; empty for this machine only."""
    return os.environ.get("RAY_ADDRESS", "")


def check_port(port: int) -> None:
    """Raises: UserError: if the port is out of range. 0 means any free port."""
    if not 0 <= port <= 65535:
        raise UserError(f"PORT={port}: expected a port from 0 to 65535. Try PORT=5001.")
