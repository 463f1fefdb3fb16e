"""The students that a sweep keeps: beside their trials while it runs, in `students/` once it has ended."""

from __future__ import annotations

import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kdas.errors import UserError, make_command
from kdas.files.cache import sync_folder, writable_folder
from kdas.students.about import About, read_about, weights_file
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import folders_in

# Ids that a message names.
_SHOWN = 5
# Of a folder's name: how many characters of a method's name are kept, and at least of a configuration's id.
_MOST_OF_METHOD, _LEAST_OF_ID = 50, 6


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
    """All students of a sweep, those in `students/` first.

    Damaged descriptions are left out; `check` names them. So are students that a user put there and no sweep kept.
    """
    for path in student_folders(directory):
        try:
            about = read_about(path)
        except UserError:
            continue
        if about.sweep:
            yield KeptStudent(path, about)


def student_folders(directory: SweepDirectory) -> list[Path]:
    """All folders that hold a student, those in `students/` first."""
    return [
        *folders_in(directory.students),
        *(folder.student for folder in directory.trials() if folder.student.is_dir()),
    ]


def trial_named(directory: SweepDirectory, name: str) -> str:
    """The id of a trial. Args: name: the id itself, or the name of a folder in `students/`."""
    folder = directory.students / name
    if directory.trial(name).exists or folder not in folders_in(directory.students):
        return name
    try:
        return read_about(folder).trial_id
    except UserError:
        return name


def student_of(directory: SweepDirectory, trial_id: str) -> KeptStudent:
    """The student of a trial. Args: trial_id: see `trial_named`.

    Raises: UserError: if it was not kept; says which trials have theirs.
    """
    trial_id, known = trial_named(directory, trial_id), {}
    for kept in kept_students(directory):
        if kept.about.trial_id == trial_id:
            return kept
        known[kept.about.trial_id] = kept.path.name
    if directory.holder() and directory.trial(trial_id).exists:
        raise UserError(
            f"{directory.path}: the sweep still runs, and trial {trial_id} has no student yet. The best ones are kept"
            " when it has finished."
        )
    if not known:
        raise UserError(
            f"{directory.path}: no student was kept. Set keep_students: finalists, and run the trial again with"
            f" {make_command('reproduce', directory.name)} TRIAL={trial_id} OUT=FOLDER."
        )
    shown = ", ".join(sorted(known)[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    raise UserError(
        f"{directory.path}: no student of trial {trial_id!r} was kept. Kept: {shown}. Any other is"
        f" trained again by {make_command('reproduce', directory.name)} TRIAL=ID OUT=FOLDER."
    )


def place_students(directory: SweepDirectory, trial_ids: Iterable[str]) -> list[Path]:
    """Move the students of these trials to `students/<method>-s<seed>`, and remove those of all other trials.

    Where a method has several configurations, the names also hold the beginnings of their ids. Students that are in
    `students/` already stay there. A kill in between damages no student, and the next call does the rest.

    Returns: the folders in `students/`, in order of their names.
    """
    wanted = set(trial_ids)
    for folder in directory.trials():
        if folder.student.is_dir() and folder.path.name not in wanted:
            folder.discard_student()
    students = {kept.about.trial_id: kept for kept in kept_students(directory)}  # one beside its trial is newer
    for kept, name in zip(students.values(), _folder_names(students.values()), strict=True):
        target = directory.students / name
        if _holds_another(target, kept):
            target = directory.students / _with_whole_id(kept)
        _moved(kept.path, target)
    return folders_in(directory.students) if students else []


def _folder_names(students: Collection[KeptStudent]) -> list[str]:
    """A name for each student, all different, also where a file system takes capital letters for small ones."""
    configs: dict[str, set[str]] = defaultdict(set)
    for kept in students:
        configs[_as_file_name(kept.method).lower()].add(kept.config_id)
    names = []
    for kept in students:
        method = _as_file_name(kept.method)
        others = configs[method.lower()] - {kept.config_id}
        length = _LEAST_OF_ID
        while any(other.startswith(kept.config_id[:length]) for other in others) and length < len(kept.config_id):
            length += 1
        several = f"-{kept.config_id[:length]}" if others else ""
        names.append(f"{method}{several}-s{kept.seed}")
    number_of = Counter(name.lower() for name in names)
    return [
        name if number_of[name.lower()] == 1 else _with_whole_id(kept)
        for name, kept in zip(names, students, strict=True)
    ]


def _with_whole_id(kept: KeptStudent) -> str:
    return f"{_as_file_name(kept.method)}-{kept.about.trial_id}"


def _as_file_name(method: str) -> str:
    # Users name methods as they like, and a name must not lead out of the folder.
    return re.sub(r"[^\w.-]", "-", method).lstrip(".")[:_MOST_OF_METHOD] or "method"


def _holds_another(folder: Path, kept: KeptStudent) -> bool:
    """Whether a folder holds another intact student, which must not be replaced."""
    try:
        return read_about(folder).trial_id != kept.about.trial_id
    except UserError:
        return False


def _moved(path: Path, target: Path) -> None:
    if path == target:
        return
    writable_folder(target.parent)
    if target.exists():
        shutil.rmtree(target)
    path.rename(target)
    sync_folder(target.parent)


def damaged_students(directory: SweepDirectory) -> Iterator[str]:
    """A sentence for each student whose files are not as they were written.

    That of a trial that has not ended is not complete before the trial is, and is written again.
    """
    ended = (folder for folder in directory.trials() if folder.student.is_dir() and folder.is_final)
    for path in [*folders_in(directory.students), *(folder.student for folder in ended)]:
        try:
            about = read_about(path)
            for is_last in (False, True):
                weights_file(path, about, last=is_last)
        except UserError as error:
            yield str(error)
