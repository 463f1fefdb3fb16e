"""`python -m kdas bank`: fill, list, check and remove teacher banks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from kdas.command.bank_progress import announce, build_with_progress, readable_size, size_on_disk
from kdas.command.progress import TeacherProgress
from kdas.errors import UserError
from kdas.files.locks import locked
from kdas.recipe.config import load_trial_config
from kdas.teacher.bank.answers import TeacherBank
from kdas.teacher.bank.opening import banks_root
from kdas.teacher.bank.store import BankStore, Shape, read_header
from kdas.training.trial import load_inputs

app = typer.Typer(no_args_is_help=True, help="The teacher's answers that trials share.")
# Names may hold what Rich would take for markup.
console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)

TrialFile = Annotated[Path, typer.Argument(help="YAML file of a trial that would use the bank.")]
SECONDS_PER_DAY = 86_400


@app.command()
def build(trial_file: TrialFile) -> None:
    """Fill the bank with every view of every training image."""
    bank = _opened(trial_file)
    announce(bank, console)
    build_with_progress(bank, console)


@app.command()
def info() -> None:
    """List the banks of this machine."""
    columns = ("bank", "teacher", "views x images", "kept in", "answered", "on disk", "at most", "used")
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for path, header in _banks():
        if header is None:
            table.add_row(path.name, "damaged; it is rebuilt when a trial needs it")
            continue
        shape, identity = header
        filled = BankStore(path, shape).share_filled(np.arange(shape.num_images))
        days = (time.time() - path.stat().st_mtime) / SECONDS_PER_DAY
        table.add_row(
            path.name,
            f"{identity['teacher']} ({identity['computed_in']}, {identity['device']})",
            f"{shape.num_views} x {shape.num_images:,}",
            shape.precision,
            f"{filled:.0%}",
            readable_size(size_on_disk(path)),
            readable_size(shape.num_bytes),
            f"{days:.0f} days ago" if days >= 1 else "today",
        )
    console.print(f"{banks_root()}", highlight=False)
    console.print(table)


@app.command()
def verify(
    trial_file: Annotated[Path | None, typer.Argument(help="Trial whose teacher checks a few answers.")] = None,
) -> None:
    """Check every record of every bank; exit code 1 if damaged."""
    is_whole = True
    for path, header in _banks():
        if header is None:
            console.print(f"{path.name}: damaged or of another version; it is rebuilt when a trial needs it")
            is_whole = False
            continue
        num_valid, num_damaged = BankStore(path, header[0]).counted()
        console.print(f"{path.name}: {num_valid:,} answers intact, {num_damaged:,} damaged", highlight=False)
        is_whole &= not num_damaged
    if trial_file is not None:
        bank = _opened(trial_file)
        agrees = bank.agrees()
        console.print(
            f"{bank.store.path.name}: {'agrees' if agrees else 'DISAGREES'} with its teacher", highlight=False
        )
        is_whole &= agrees
    if not is_whole:
        raise typer.Exit(1)


@app.command()
def prune(
    days: Annotated[int, typer.Option(min=0, help="Remove banks unused for this many days.")] = 30,
) -> None:
    """Remove unused banks; a trial that needs one refills it."""
    num_bytes = 0
    for path, _ in _banks():
        with locked(path.with_name(f"{path.name}.lock")):
            # Looked at under the lock: whoever held it until now has used the bank, or has removed it.
            if not path.exists() or time.time() - path.stat().st_mtime < days * SECONDS_PER_DAY:
                continue
            size = size_on_disk(path)
            path.unlink()
        num_bytes += size
        console.print(f"{path.name} removed, {readable_size(size)}", highlight=False)
    console.print(f"{readable_size(num_bytes)} freed", highlight=False)


def _banks() -> Iterator[tuple[Path, tuple[Shape, dict[str, object]] | None]]:
    for path in sorted(banks_root().glob("*.bank")):
        yield path, read_header(path)


def _opened(trial_file: Path) -> TeacherBank:
    """The bank of a trial. Raises: UserError: if it has none."""
    config = load_trial_config(trial_file)
    try:
        bank = load_inputs(config, TeacherProgress(console)).bank(config)
    except UserError as error:
        raise error.of(trial_file) from error
    if bank is None:
        raise UserError(
            f"{trial_file}: bank: {config.bank} runs the teacher live here, so there is no bank. Set bank: float16 or"
            " float32."
        )
    return bank
