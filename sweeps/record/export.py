"""Writes a student of a sweep to a file for other programs."""

from __future__ import annotations

from pathlib import Path

from kdas.errors import UserError, nearest
from kdas.students.export import FORMATS, export, metadata_of
from kdas.students.student import load_student
from sweeps.record.directory import SweepDirectory
from sweeps.record.students import KeptStudent, kept_students, student_of
from sweeps.record.winner import winner_of


def export_student(
    directory: SweepDirectory,
    trial_id: str | None,
    form: str,
    out: Path | None,
    *,
    last: bool,
    own_code: bool,
    method: str | None,
) -> str:
    """Write a student. Returns: what was written, and how images are normalised for it, a line each.

    Args: trial_id: of the student, or its folder's name; None for the best one, see `best_student`; last: the weights
        after the last step; method: of the best one, only among this method.
    Raises: UserError: for an unknown format, if the student was not kept or cannot be written, or if `out`
        exists.
    """
    if form not in FORMATS:
        raise UserError(f"--format {form}: no such format. {nearest(form, FORMATS)}")
    kept = best_student(directory, method) if trial_id is None else student_of(directory, trial_id)
    path = out or Path(f"{directory.name.replace('/', '-')}-{kept.path.name}.{form}")
    if path.is_dir():
        raise UserError(f"--out {path}: is a folder. Give a file.")
    if out is not None and path.exists():
        raise UserError(f"--out {path}: exists already. Give another file, or remove it.")
    student = load_student(kept.path, last=last, own_code=own_code)
    export(student, path, form)
    about = metadata_of(student)
    mean, std = (", ".join(f"{value:.4f}" for value in about[key]) for key in ("mean", "std"))
    size = about["image_size"]
    row = kept.about.last if last else kept.about.best
    return (
        f"{path}: {kept.about.student} of {kept.about.trial_id} ({kept.method}), test accuracy"
        f" {row['test_accuracy']:.4f}{'' if last else f', chosen by {kept.about.decided_by} accuracy'}\n"
        f"images {size}x{size}, {about['channels']}, (pixels / 255 - mean) / std: mean {mean}; std {std};"
        f" {about['num_classes']} classes. The file holds this, and the classes' names."
    )


def best_student(directory: SweepDirectory, method: str | None = None) -> KeptStudent:
    """The student of the sweep's best configuration: of its seeds that with the highest accuracy on the split that
    decides, the first of equals.

    Args: method: only configurations of this method. If its best one has no students, all that the method has count, as
        for the models that MLflow registers.
    Raises: UserError: if the sweep has no best configuration yet, or none of its students was kept.
    """
    winner = winner_of(directory, method)
    of_winner = {folder.path.name for folder in winner.trials}
    every = [each for each in kept_students(directory) if method in (None, each.method)]
    kept = [each for each in every if each.about.trial_id in of_winner] or (every if method else [])
    if not kept:
        return student_of(directory, winner.trials[0].path.name)  # says what was kept
    return max(kept, key=lambda each: (each.about.best["val_accuracy"], -each.seed))
