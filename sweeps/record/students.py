"""The students that a sweep keeps: beside their trials while it runs, in `students/` once it has ended."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdas.errors import UserError
from kdas.files.cache import sync_folder, writable_folder
from kdas.students.about import About, read_about, weights_file
from sweeps.record.directory import SweepDirectory

# Ids that a message names.
_SHOWN = 5


@dataclass(frozen=True)
class KeptStudent:
    """A student of a sweep, and the folder that holds it."""

    path: Path
    about: About

    @property
    def method(self) -> str:
        return self.about.sweep["method"]

    @property
    def seed(self) -> int:
        return int(self.about.recipe["seed"])

    @property
    def config_id(self) -> str:
        return self.about.trial_id.rpartition("-s")[0]


def kept_students(directory: SweepDirectory) -> Iterator[KeptStudent]:
    """All students of a sweep, those in `students/` first. Damaged descriptions are left out; `check` names them."""
    for path in student_folders(directory):
        try:
            yield KeptStudent(path, read_about(path))
        except UserError:
            continue


def student_folders(directory: SweepDirectory) -> list[Path]:
    """All folders that hold a student, those in `students/` first."""
    placed = directory.students
    folders = sorted(path for path in placed.iterdir() if path.is_dir()) if placed.is_dir() else []
    return [*folders, *(folder.student for folder in directory.trials() if folder.student.is_dir())]


def student_of(directory: SweepDirectory, trial_id: str) -> KeptStudent:
    """The student of a trial. Raises: UserError: if it was not kept; says which trials have theirs."""
    known = {}
    for kept in kept_students(directory):
        if kept.about.trial_id == trial_id:
            return kept
        known[kept.about.trial_id] = kept.path.name
    if not known:
        raise UserError(
            f"{directory.path}: no student was kept. Set keep_students: finalists, and run the trial again with"
            f" kdas-sweeps reproduce {directory.name} {trial_id} --student FOLDER."
        )
    shown = ", ".join(sorted(known)[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    raise UserError(
        f"{directory.path}: no student of trial {trial_id!r} was kept. Kept: {shown}. Any other is"
        f" trained again by kdas-sweeps reproduce {directory.name} TRIAL --student FOLDER."
    )


def place_students(directory: SweepDirectory, trial_ids: Iterable[str]) -> list[Path]:
    """Move the students of these trials to `students/<method>-s<seed>`, and remove those of all other trials.

    Where a method has several configurations, the names also hold the beginnings of their ids. Students that are in
    `students/` already stay there. A kill in between leaves every student whole, and the next call goes on.

    Returns: the folders in `students/`, in order of their names.
    """
    wanted = set(trial_ids)
    for folder in directory.trials():
        if folder.student.is_dir() and folder.path.name not in wanted:
            folder.discard_student()
    students = {kept.about.trial_id: kept for kept in kept_students(directory)}  # one beside its trial is newer
    configs: dict[str, set[str]] = defaultdict(set)
    for kept in students.values():
        configs[kept.method].add(kept.config_id)
    for kept in students.values():
        several = f"-{kept.config_id[:6]}" if len(configs[kept.method]) > 1 else ""
        _moved(kept.path, directory.students / f"{kept.method}{several}-s{kept.seed}")
    return sorted(path for path in directory.students.iterdir() if path.is_dir()) if students else []


def _moved(path: Path, target: Path) -> None:
    if path == target:
        return
    writable_folder(target.parent)
    if target.exists():
        shutil.rmtree(target)
    path.rename(target)
    sync_folder(target.parent)


def damaged_students(directory: SweepDirectory) -> Iterator[str]:
    """A sentence for each student whose files are not as they were written."""
    for path in student_folders(directory):
        try:
            about = read_about(path)
            for is_last in (False, True):
                weights_file(path, about, last=is_last)
        except UserError as error:
            yield str(error)
