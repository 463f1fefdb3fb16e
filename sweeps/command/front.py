"""The front door: commands that take several processes, as first the sweep, then its report, then MLflow.

So the report loads neither torch nor Ray, and no room imports another just to run it next.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from kdas.errors import UserError, make_command
from sweeps.command.ending import STARTED_BY, resume_hint
from sweeps.command.options import (
    CRASHED_TRIALS,
    INTERRUPTED,
    SIGNALLED,
    TERMINATED,
    WATCH_PORT,
    Additions,
    Cluster,
    Data,
    Form,
    Name,
    Port,
    Settings,
    Target,
    Yes,
)
from sweeps.record.overhead import keep_after
from sweeps.record.paths import COMPARISONS, MEASURE, SPEC, names_of_cells, recorded_names, runs_root, sweep_path

# The other commands are in `sweeps.__main__`.
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.command()
def sweep(
    name: Name,
    data: Data = None,
    settings: Settings = None,
    add: Additions = None,
    yes: Yes = False,
    cluster: Cluster = None,
) -> None:
    """Run or resume a sweep, then report it."""
    given = [word for setting in settings or () for word in ("--set", setting)]
    given += ["--data", data] if data else []
    given += [word for text in add or () for word in ("--add", text)]
    given += ["--yes"] if yes else []
    given += ["--cluster", cluster] if cluster else []
    ended = _python("sweeps", "run", name, *given)
    if ended > SIGNALLED and ended not in (INTERRUPTED, TERMINATED):
        print(
            f"The sweep's process was killed (signal {ended - SIGNALLED}). {resume_hint(name, settings)}",
            file=sys.stderr,
        )
    if ended not in (0, CRASHED_TRIALS):
        sys.exit(ended)
    _report_and_sync(name)
    sys.exit(ended)


@app.command()
def report(name: Name, target: Target = None) -> None:
    """Rebuild the report from what is on disk."""
    _must(_python("sweeps", "tables", name))
    if not any((sweep_path(each) / MEASURE).exists() for each in names_of_cells(name)):
        raise UserError(
            f"{sweep_path(name) / MEASURE}: missing, so no target is known. It is written once the baseline"
            " has finished. If it has been deleted, run the sweep again to rebuild it."
        )
    if target is None:
        _report_and_sync(name)
        return
    for each in names_of_cells(name):
        if (sweep_path(each) / MEASURE).exists():
            _must(_python("analysis", "report", str(sweep_path(each)), "--target", target))


@app.command()
def table(name: Name, form: Form = "markdown") -> None:
    """Print a table for a paper."""
    path = sweep_path(name)
    # Tables of another origin have no trials to rebuild them from. Without a folder, this says what is missing.
    if (path / SPEC).exists() or not path.is_dir():
        _must(_python("sweeps", "tables", name))
    for each in names_of_cells(name):
        _must(_python("analysis", "table", str(sweep_path(each)), "--format", form))


@app.command()
def compare(names: Annotated[str, typer.Argument(help="Two or more sweeps, separated by spaces.")]) -> None:
    """Compare sweeps on one page."""
    every = [each for name in names.split() for each in names_of_cells(name)]
    if not every and os.environ.get("NAME"):  # make passes on what it is given
        raise UserError('NAMES is not given, only NAME. Write: make compare NAMES="a b".')
    if len(every) < 2:
        raise UserError(f'NAMES="{names}": expected two or more sweeps. Write: make compare NAMES="a b".')
    missing = [name for name in names.split() if not sweep_path(name).is_dir()]
    if missing:
        known = f" Known: {', '.join(recorded_names())}." if recorded_names() else ""
        raise UserError(f'NAMES="{names}": no sweep has run as {" or ".join(missing)} in {runs_root()}.{known}')
    for name in names.split():
        if (sweep_path(name) / SPEC).exists():  # tables of another origin have no trials to rebuild them from
            _must(_python("sweeps", "tables", name))
    page = runs_root() / COMPARISONS / f"{'+'.join(sweep_path(name).name for name in names.split())}.html"
    _must(_python("analysis", "compare", *(str(sweep_path(each)) for each in every), "--out", str(page)))


@app.command()
def watch(name: Name, port: Port = WATCH_PORT) -> None:
    """Serve a sweep's report and keep it up to date."""
    from sweeps.command import watch as watching

    if not watching.has_begun(sweep_path(name)):
        _must(_python("sweeps", "tables", name))  # exits with an error that explains what is wrong with the name
    watching.watch(name, port, lambda: _build(name))


def _report_and_sync(name: str) -> None:
    measured = []
    for each in names_of_cells(name):
        if not (sweep_path(each) / MEASURE).exists():
            print(
                f"{each}: nothing to report yet. The target is fixed once the baseline has finished.", file=sys.stderr
            )
            continue
        measured.append(str(sweep_path(each)))
        began = time.monotonic()
        _must(_python("analysis", "report", measured[-1]))
        ended = _python("sweeps", "sync", each)
        if ended in (INTERRUPTED, TERMINATED):
            sys.exit(ended)
        if ended:
            print(
                f"Some runs were not uploaded. Results are complete. Retry with: {make_command('sync', each)}",
                file=sys.stderr,
            )
        keep_after(time.monotonic() - began)
    if len(measured) > 1:
        _must(_python("analysis", "compare", *measured, "--out", str(sweep_path(name) / "report.html")))


def _build(name: str) -> None:
    """Rebuild the reports of a sweep without printing anything."""
    _must(_python("sweeps", "tables", name))
    measured = [str(sweep_path(each)) for each in names_of_cells(name) if (sweep_path(each) / MEASURE).exists()]
    for path in measured:
        _must(_python("analysis", "report", path, "--quiet"))
    if len(measured) > 1:
        _must(_python("analysis", "compare", *measured, "--out", str(sweep_path(name) / "report.html"), "--quiet"))


def _must(code: int) -> None:
    if code != 0:
        sys.exit(code)


def _python(module: str, *arguments: str) -> int:
    """Run `python -m module` and wait for it. Returns: its exit code, 128 + n if signal n ended it.

    Ctrl-C also reaches the child, which ends in its own time. SIGTERM reaches only the front, which passes it on.
    """
    command: Sequence[str] = [sys.executable, "-m", module, *arguments]
    children: list[subprocess.Popen[bytes]] = []
    is_terminated = threading.Event()

    def pass_on(number: int, frame: FrameType | None) -> None:
        is_terminated.set()
        for child in children:
            child.terminate()

    # Handlers, not SIG_IGN: a child would inherit the latter and ignore Ctrl-C.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, pass_on),
    }
    try:
        children.append(subprocess.Popen(command, env={**os.environ, STARTED_BY: str(os.getpid())}))
        if is_terminated.is_set():
            children[0].terminate()
        code = children[0].wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if is_terminated.is_set() and code == 0:  # what would have followed is left out
        return TERMINATED
    return code if code >= 0 else SIGNALLED - code
