"""Options that the commands share, exit codes, and the address of the cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from kdas.errors import UserError, make_command
from sweeps.record.paths import sweep_path


def _checked(name: str) -> str:
    """Raises: UserError: for a name that no sweep can have. Commands ask for one that is missing in their own words."""
    if name.strip():
        sweep_path(name)
    return name


Name = Annotated[str, typer.Argument(help="Name of a shipped sweep, or path of a sweep file.", callback=_checked)]
Shown = Annotated[str, typer.Argument(help="Sweep whose links are printed; default: the last one.", callback=_checked)]
Data = Annotated[str | None, typer.Option(help="Folder with a local copy of the dataset.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE that overrides the file; may be repeated."),
]
Additions = Annotated[
    list[str] | None,
    typer.Option("--add", help="KEY=VALUE ... of one more configuration; may be repeated."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Start even if the estimate exceeds the budget.")]
Cluster = Annotated[str | None, typer.Option(help="Head of a Ray cluster, host:6379; default: RAY_ADDRESS.")]
Target = Annotated[
    str | None, typer.Option(metavar="FRACTION", help="Another target than the sweep's own; trains nothing.")
]
Form = Annotated[str, typer.Option("--format", help="latex, markdown or csv.")]
Method = Annotated[str | None, typer.Option(help="Only this method, as the report names it.")]
TrialId = Annotated[str, typer.Argument(metavar="TRIAL", help="Id of a trial, as trials.parquet and MLflow show it.")]
OneTrial = Annotated[str | None, typer.Option("--trial", help="Id of a trial; by default that of --best.")]
Best = Annotated[bool, typer.Option("--best", help="The student of the best configuration (the default).")]
LastWeights = Annotated[bool, typer.Option("--last", help="The weights after the last step instead of the best ones.")]
FileFormat = Annotated[str, typer.Option("--format", help="safetensors, pth, pt2 or onnx.")]
StudentFile = Annotated[Path | None, typer.Option(help="File to write; by default named after sweep and student.")]
StudentFolder = Annotated[Path | None, typer.Option("--student", help="Folder to keep the trained student in.")]
Register = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Also register the best student of each method under this name.")
]
OwnCode = Annotated[bool, typer.Option("--own-code", help="Allow a student whose network is of your own code.")]
ReleaseFile = Annotated[Path, typer.Argument(help="Config file of the official release, or of mdistiller.")]
OutFile = Annotated[Path | None, typer.Option(help="File to write; by default the translation is printed.")]
AsTrial = Annotated[bool, typer.Option("--trial", help="Write the file of one trial instead of a sweep.")]
Searches = Annotated[str, typer.Option("--search", help="Search algorithms to compare, separated by commas.")]
Schedulers = Annotated[str, typer.Option("--scheduler", help="Schedulers to compare, separated by commas.")]
Slots = Annotated[str, typer.Option(help="Numbers of trials at once, separated by commas.")]
Replays = Annotated[int, typer.Option(min=1, help="Replays of each combination.")]
WarmFrom = Annotated[str, typer.Option("--warm", help="Sweeps for a warm start, separated by commas; default: none.")]
Surrogate = Annotated[bool, typer.Option("--surrogate", help="Interpolate between configurations with a fitted model.")]

# Exit codes besides 0, 2 (a user's mistake, in one line) and 1 (a bug of ours, with its traceback).
CRASHED_TRIALS = 3
RAY_LOST = 4
# A process that a signal has ended has this and the signal's number.
SIGNALLED = 128
INTERRUPTED = SIGNALLED + 2
TERMINATED = SIGNALLED + 15


def cluster_address() -> str:
    """The head of the Ray cluster to join, from Ray's own variable `RAY_ADDRESS`; empty for this machine only."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return "" if address == "local" else address


def check_trial_is_given(trial: str, name: str, *, or_student: bool) -> None:
    """Raises: UserError: if it is empty, as from a make command without TRIAL.

    Args: name: of the sweep; or_student: whether the name of a student's folder is understood, too.
    """
    if not trial.strip():
        also = ", or the name of a folder in the sweep's students/" if or_student else ""
        raise UserError(f"TRIAL is not given. Give a trial's id{also}. {make_command('status', name)} shows ids.")


# Where `make ui` and `make watch` listen.
UI_PORT, WATCH_PORT = 5000, 5001


def another_port(port: int) -> int:
    """A port to try in place of one that is taken: none that another command listens on by default."""
    candidates = (port + 1, port + 2, port + 3, WATCH_PORT + 1)
    return next(each for each in candidates if each not in (UI_PORT, WATCH_PORT) and each <= 65535)


def check_port(port: str | int) -> int:
    """A port as a number; 0 means any free port. Raises: UserError: if it is not a number, or out of range."""
    text = str(port).strip()
    if not text.isdecimal() or int(text) > 65535:
        raise UserError(f"PORT={port}: expected a port from 0 to 65535. Try PORT=5001.")
    return int(text)


Port = Annotated[int, typer.Option(parser=check_port, metavar="PORT", help="Port on 127.0.0.1.")]
