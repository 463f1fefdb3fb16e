"""`python -m kdas`: run one trial, use its student, list the parts that a file may name, manage teacher banks."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from kdas.errors import UserError, quiet_interrupts, run_command_line
from kdas.files.cache import check_cache, writable_folder
from kdas.files.home import ensure_home
from kdas.files.journal import Journal
from kdas.parts.known import DATASETS, LOSSES, MODELS, SAMPLERS, TRANSFORMS
from kdas.parts.plugins import require_plugins
from kdas.parts.registry import Part, Registry
from kdas.recipe.config import load_trial_config
from kdas.records import CurveRow, Status
from kdas.students.about import check_free

if TYPE_CHECKING:
    from kdas.training.trainer import Training

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
# Names may hold what Rich would take for markup.
console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)
quiet_interrupts()  # torch takes seconds
if sys.argv[1:2] != ["train"]:  # whose mistakes are told without torch, which these commands import
    from kdas.command import bank, student

    app.add_typer(bank.app, name="bank")
    app.command()(student.evaluate)
    app.command()(student.predict)
_KINDS: dict[str, Registry[Any]] = {
    "samplers": SAMPLERS,
    "losses": LOSSES,
    "models": MODELS,
    "datasets": DATASETS,
    "transforms": TRANSFORMS,
}
_LONGEST_ROW = 65_536
_HEADER = "epoch   step  ref. s  wall s    loss  val acc  test acc"


@app.command()
def train(
    trial_file: Annotated[Path, typer.Argument(help="YAML file of the trial.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Checkpoint to resume from and to keep up to date.")] = None,
    curve: Annotated[Path | None, typer.Option(help="Also write the curve to this file, as JSON lines.")] = None,
    student: Annotated[Path | None, typer.Option(help="Folder to keep the trained student in.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="KEY=VALUE that overrides the file; may be repeated.")
    ] = None,
) -> None:
    """Run one trial alone and print its curve."""
    config = load_trial_config(trial_file, settings or ())
    checkpoint, curve = (_file_to_write(path) if path else None for path in (checkpoint, curve))
    if student is not None:
        writable_folder(student)
    _check_curve(curve, checkpoint)
    check_cache()
    # Only now: they import torch, which takes seconds, and most files with a mistake are refused without it.
    from kdas.command.bank_progress import announce
    from kdas.command.progress import TeacherProgress
    from kdas.command.teacher import tell_quality
    from kdas.teacher.obtain import check_checkpoint
    from kdas.training.calibrate import calibration_for
    from kdas.training.own_parts import check_own_parts
    from kdas.training.trainer import Surroundings, Training
    from kdas.training.trial import Trial, find_dataset, load_inputs

    began = time.perf_counter()
    try:
        check_own_parts(config)
        check_checkpoint(config.teacher, find_dataset(config))
        inputs = load_inputs(config, TeacherProgress(console))
        bank = inputs.bank(config, check=True)
        if bank is not None:
            announce(bank, console)
        tell_quality(config, inputs, console)
    except UserError as error:
        raise error.of(trial_file) from error
    data_s = time.perf_counter() - began
    trial = Trial(config, inputs)
    check_free(student, trial.trial_id)
    calibration = calibration_for(config, trial.inputs, _say)
    keeps = student is not None
    training = Training(
        trial, Surroundings(calibration, checkpoint, data_s=data_s, checkpoint_every_s=0.0, keeps_student=keeps)
    )
    if curve is not None:
        # Only rows up to the checkpoint, so that a resumed trial writes the curve of an uninterrupted one.
        rows = Journal(curve, is_plain=True)
        rows.replace(row for row in rows.read() if training.step and row["step"] <= training.step)
    console.print(f"trial {trial.trial_id}: {trial.pair} on {inputs.dataset.name}, {inputs.device}", highlight=False)
    if not config.validation:
        console.print('no validation split: "val acc" shows test accuracy')
    console.print(_HEADER, style="bold")
    shown: list[CurveRow] = []
    resumed = training.step > 0
    try:
        for row in training.rows():
            console.print(_line(row), highlight=False)
            shown.append(row)
            if curve is not None:
                rows.append([row.as_dict()], sync=False)
    except KeyboardInterrupt:
        kept = f"the same command resumes from {checkpoint}" if checkpoint else "use --checkpoint to be able to resume"
        console.print(f"Interrupted in epoch {training.epoch}; {kept}.", highlight=False)
        raise
    console.print(f"ended: {training.status}{_result(shown, resumed)}", highlight=False)
    if student is not None:
        _say(_kept(training, student))


def _result(rows: Iterable[CurveRow], resumed: bool) -> str:
    """The best of these evaluations, the first of equals. Args: resumed: whether earlier ones are missing."""
    known = [row for row in rows if not math.isnan(row.val_accuracy)]
    if not known:
        return ""
    best = max(known, key=lambda row: row.val_accuracy)
    since = " since it resumed" if resumed else ""
    return (
        f"; best val acc{since} {best.val_accuracy:.4f} in epoch {best.epoch}, test acc there {best.test_accuracy:.4f}"
    )


@app.command("list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help=f"One of {', '.join(_KINDS)}; by default all, in short.")] = None,
    plugin: Annotated[list[str] | None, typer.Option(help="A module or .py file with your own parts.")] = None,
) -> None:
    """List parts with their sources; those of one kind also with their parameters and needs."""
    if kind is not None and kind not in _KINDS:
        raise UserError(f"list: expected one of {', '.join(_KINDS)}, got {kind!r}.")
    require_plugins(plugin or [], "list: --plugin")
    for title, parts in _grouped(kind):
        console.print(f"{title} ({len(parts)})", style="bold", highlight=False)
        console.print(_listed(parts, with_parameters=kind is not None))
    if kind in (None, "models"):
        from kdas.models import BESIDE_THE_ZOO

        console.print(BESIDE_THE_ZOO, highlight=False)


def _grouped(kind: str | None) -> Iterator[tuple[str, list[Part[Any]]]]:
    """The parts of a kind, or of all, in groups with a title. Losses are grouped by what they compare."""
    for name, registry in _KINDS.items():
        if name != "losses" and kind in (None, name):
            yield name, list(registry)
        elif kind in (None, name):
            groups: dict[str, list[Part[Any]]] = {"logits": [], "features": [], "maps": []}
            for part in registry:
                compared = [each for each in ("maps", "features") if any(each in need for need in part.needs)]
                groups[compared[0] if compared else "logits"].append(part)
            yield from ((f"losses on {what}", parts) for what, parts in groups.items() if parts)


def _listed(parts: Iterable[Part[Any]], with_parameters: bool) -> Table:
    columns = ["parameters (default)", "needs"] if with_parameters else []
    table = Table("name", "what", *columns, "source", box=None, padding=(0, 2, int(with_parameters), 0))
    for part in parts:
        fields = part.schema.model_fields.items()
        parameters = [name if field.is_required() else f"{name} ({field.default})" for name, field in fields]
        extra = (", ".join(parameters), ", ".join(part.needs)) if with_parameters else ()
        table.add_row(part.name, part.summary, *extra, part.source)
    return table


def _file_to_write(path: Path) -> Path:
    """The file that `path` names, or links to: writing replaces it, which would destroy a link or a device.

    Raises: UserError: if it is not a file, or cannot be written.
    """
    try:
        file = path.resolve(strict=False) if path.is_symlink() else path
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: expected a file, got a link to itself. Give a file.") from error
    if file.exists() and not file.is_file():
        raise UserError(f"{path}: expected a file, got a {'folder' if file.is_dir() else 'device'}. Give a file.")
    writable_folder(file.parent)
    return file


def _kept(training: Training, folder: Path) -> str:
    """Keep the student of a trial that has ended. Returns: what the user is told."""
    if training.status is Status.DIVERGED:
        return "The training diverged, so no student is kept."
    training.write_student(folder)
    return f"student: {folder} (python -m kdas evaluate {folder})"


def _check_curve(path: Path | None, checkpoint: Path | None) -> None:
    """Raises: UserError: if there is a file that is not a curve, since writing the curve replaces it, or will be."""
    if path is None:
        return
    if path == checkpoint:
        raise UserError(f"{path}: is given as --curve and as --checkpoint. Give two files.")
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_ROW)
    except FileNotFoundError:
        return
    try:
        row = json.loads(first)
    except ValueError:  # of a curve that was cut short not even the first line is complete
        row = {"step": 0} if first[:1] in (b"", b"{") and not first.endswith(b"\n") else {}
    if not isinstance(row, dict) or "step" not in row:
        raise UserError(f"{path}: is not a curve, and would be replaced. Give another file.")


def _say(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _line(row: CurveRow) -> str:
    return (
        f"{row.epoch:5d} {row.step:6d} {row.cost_ref_s:7.2f} {row.wall_s:7.2f} {row.train_loss:7.3f}"
        f"  {row.val_accuracy:7.4f}  {row.test_accuracy:8.4f}"
    )


def main() -> None:
    """The program's entry point."""
    run_command_line(app, ensure_home)


if __name__ == "__main__":
    main()
