"""Runs a trial of a sweep again, alone and in this process, and compares the curves."""

from __future__ import annotations

import math
from pathlib import Path

from rich.console import Console

from kdas.errors import UserError
from kdas.files.cache import writable_folder
from kdas.recipe.config import TrialConfig
from kdas.records import STOPPED_STATUSES, CurveRow, Status
from kdas.students.about import check_free
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial
from sweeps.file.loading import recorded_spec
from sweeps.prepare.inputs import inputs_for
from sweeps.prepare.own_copies import with_own_copies
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure
from sweeps.record.spec_file import read_spec
from sweeps.record.students import trial_named
from sweeps.record.trial import TrialFolder

# What depends on the machine and on what else it does, not on the trial.
_OF_THE_MACHINE = {"wall_s", "eval_s", "data_s", "num_cotenants", "cost_as_run_s", "device"}


def reproduce(directory: SweepDirectory, trial_id: str, student: Path | None, console: Console) -> bool:
    """Train a recorded trial again, up to where it ended, and print whether each evaluation is the same.

    Args: student: a folder to keep its trained network in.
    Returns: whether all evaluations are there and equal.
    Raises: UserError: if there is no such trial, if it has not ended, or if data or teacher have changed
            since, or if the student's folder cannot be written to.
    """
    folder = _ended(directory, trial_named(directory, trial_id))
    if student is not None:
        writable_folder(student)
    check_free(student, folder.path.name)
    recorded = [each.row for each in folder.rows()]
    if student is not None and folder.status in STOPPED_STATUSES:
        console.print("The trial was stopped early. It is trained to its end here, to keep its student.")
    training = _training_of(directory, folder, recorded[-1].calibration_id, console, keeps_student=student is not None)
    num_same, rows = 0, training.rows()
    for number, row in enumerate(rows, start=1):
        differs = _differences(recorded[number - 1], row)
        num_same += not differs
        console.print(_line(row, differs), highlight=False, markup=False, soft_wrap=True)
        if number == len(recorded):
            break
    if student is not None:
        for _ in rows:
            pass
        if training.status is Status.BUDGET:
            training.write_student(student)
            console.print(f"student: {student}", highlight=False, markup=False, soft_wrap=True)
        else:
            console.print("The training diverged, so no student is kept.", highlight=False)
    console.print(f"{num_same} of {len(recorded)} evaluations are as recorded", highlight=False)
    return num_same == len(recorded)


def _ended(directory: SweepDirectory, trial_id: str) -> TrialFolder:
    folder = directory.trial(trial_id)
    if not folder.exists:
        raise UserError(
            f"{directory.path}: no trial {trial_id!r}. {_some([each.path.name for each in directory.trials()])}"
        )
    if (damage := folder.damage()) is not None:
        raise UserError(str(damage))
    if folder.status is Status.RUNNING or not folder.rows():
        raise UserError(f"{folder.path}: the trial has not ended. Run the sweep to its end first.")
    return folder


def _training_of(
    directory: SweepDirectory, folder: TrialFolder, calibration_id: str, console: Console, *, keeps_student: bool
) -> Training:
    """The trial at its beginning, with the data, teacher, prices and budget that it had."""
    calibration = directory.calibrations().get(calibration_id)
    if calibration is None:
        raise UserError(
            f"{directory.path}: the prices of the trial are missing. Run .venv/bin/kdas-sweeps check {directory.name}."
        )
    trial = _trial_of(directory, TrialConfig(**folder.description["config"]), folder.path.name, console)
    if trial.trial_id != folder.path.name:
        raise UserError(
            f"{folder.path}: data, teacher or code have changed since: the trial would be {trial.trial_id} now."
            " Restore them."
        )
    measure = read_measure(directory)
    budget_ref_s = measure.budget_ref_s if measure is not None else None
    return Training(trial, Surroundings(calibration, budget_ref_s=budget_ref_s, keeps_student=keeps_student))


def _trial_of(directory: SweepDirectory, recorded: TrialConfig, trial_id: str, console: Console) -> Trial:
    """A recorded trial, with the data and the teacher of its sweep or of its method, as they are now."""
    config = with_own_copies(recorded, directory)
    methods = read_spec(directory.spec_file)["baselines"] if directory.spec_file.exists() else {}
    if not any("teacher" in method for method in methods.values()):
        return Trial(config, inputs_for(config, directory, console))
    recipe, *others = with_own_copies(recorded_spec(directory.spec_file), directory).methods.recipes
    inputs = inputs_for(recipe, directory, console, others)
    # Found by its id, as the checkpoint of its teacher may have been elsewhere when it was recorded.
    trials = [Trial(config.model_copy(update={"teacher": each.teacher}), inputs) for each in (recipe, *others)]
    return next((trial for trial in trials if trial.trial_id == trial_id), trials[0])


def _some(trial_ids: list[str]) -> str:
    if not trial_ids:
        return "The sweep has no trials yet."
    return f"The sweep has {len(trial_ids)}, for example {trial_ids[0]}; trials.parquet lists them."


def _differences(recorded: CurveRow, row: CurveRow) -> list[str]:
    """Columns that differ, with both values. NaN equals NaN; what an earlier version did not record cannot differ."""
    now = row.as_dict()
    return [
        f"{name} was {value}, is {now[name]}"
        for name, value in recorded.as_dict().items()
        if name not in _OF_THE_MACHINE
        and value not in (None, now[name])
        and not (_is_nan(value) and _is_nan(now[name]))
    ]


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _line(row: CurveRow, differs: list[str]) -> str:
    told = "; ".join(differs) if differs else "as recorded"
    return f"epoch {row.epoch}, step {row.step}: validation accuracy {row.val_accuracy:.4f}: {told}"
