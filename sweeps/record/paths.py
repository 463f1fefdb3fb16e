"""The path of a sweep on disk, and the names of its folders and phases."""

from __future__ import annotations

import os
from pathlib import Path

from kdas.errors import UserError
from kdas.files.home import expanded

# The folder in a sweep that contains its cells, and the file with the terms of measurement.
CELLS, MEASURE = "cells", "measure.json"
# The folder of the trained networks that a sweep keeps.
STUDENTS = "students"
# The file of a sweep as it began, in its folder.
SPEC = "sweep.yaml"
# Beside the sweeps: MLflow's embedded database, the files of its runs, and the pages that compare sweeps.
DATABASE, ARTIFACTS, COMPARISONS = "mlflow.db", "mlflow-artifacts", "compare"
_NOT_SWEEPS = {DATABASE, ARTIFACTS, COMPARISONS}
_MOST_BYTES = 200
# The phases of a sweep.
SEARCH, CONFIRM = "search", "confirm"


def runs_root() -> Path:
    """The folder of all sweeps: `RUNS_DIR`, else `runs`. Raises: UserError: if it is an address of a store."""
    named = os.environ.get("RUNS_DIR") or "runs"
    if "://" in named:
        raise UserError(
            f"RUNS_DIR={named}: expected a folder on a file system with locks, got an address. Set RUNS_DIR to such a"
            " folder, and copy it to the store when the sweep has ended."
        )
    return expanded(named).absolute()


def sweep_path(name: str) -> Path:
    """The folder of a sweep, by its name or the path of its file; `sweep/cell` means one of its cells.

    The file that a sweep has recorded names that sweep.

    Raises: UserError: if the name is empty, or not one of a folder in `runs_root()`.
    """
    if not name.strip():
        raise UserError("NAME is not given. Name a sweep: NAME=digits_kd, or the path of its file.")
    name = _of_recorded_file(name)
    sweep, _, cell = (Path(name).stem if is_file_name(name) else name.rstrip("/")).partition("/")
    if not sweep or "/" in cell:
        _check_is_no_folder_of_a_sweep(name)
        is_folder = os.path.isdir(name)  # noqa: PTH112 (a name that no path can have)
        raise UserError(
            f"NAME={name!r}: {'is a folder' if is_folder else 'is not the name of a sweep'}. Give the name of a sweep,"
            " or the path of a file that ends in .yaml."
        )
    for part in (sweep, cell) if cell else (sweep,):
        _check_folder_name(name, part)
    if sweep.lower() in _NOT_SWEEPS or sweep.lower().startswith(f"{DATABASE}-"):
        raise UserError(f"NAME={name!r}: {sweep} is reserved in RUNS_DIR. Rename the sweep file.")
    found = runs_root() / sweep / CELLS / cell if cell else runs_root() / sweep
    if cell and not found.exists():
        _check_is_no_folder_of_a_sweep(name)
    return found


def _of_recorded_file(name: str) -> str:
    """The name of the sweep, or of the cell, that has recorded a file; other names as they are."""
    path = _plain(Path(name))
    if is_recorded(path):
        return path.parent.name
    if path.name == SPEC and _is_cell(path.parent):
        return f"{path.parents[2].name}/{path.parent.name}"
    return name


def _is_cell(path: Path) -> bool:
    """Whether a plain path is that of a cell's folder."""
    return path.parent.name == CELLS and path.parent.parent.parent == _plain(runs_root())


def _plain(path: Path) -> Path:
    """An absolute path without `..`."""
    return Path(os.path.normpath(path.absolute()))


def _check_is_no_folder_of_a_sweep(name: str) -> None:
    """Raises: UserError: if it is the path of a sweep's folder, or a cell's, instead of its name."""
    if not os.path.isdir(name):  # noqa: PTH112 (a name that no path can have)
        return
    path = _plain(Path(name))
    is_cell = _is_cell(path)
    if is_cell or path.parent == _plain(runs_root()):
        own = f"{path.parents[1].name}/{path.name}" if is_cell else path.name
        raise UserError(f"NAME={name!r}: is a folder. Give NAME={own}.")


def is_file_name(name: str) -> bool:
    """Whether a name is that of a sweep file, rather than of a sweep."""
    return Path(name).suffix.lower() in {".yaml", ".yml"}


def is_recorded(path: Path) -> bool:
    """Whether a path is that of the file which a sweep in `runs_root()` has recorded."""
    return path.name == SPEC and _plain(path).parent.parent == _plain(runs_root())


def recorded_names() -> list[str]:
    """The sweeps that have started."""
    return sorted(file.parent.name for file in runs_root().glob(f"*/{SPEC}"))


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name. File managers and Jupyter leave hidden ones, which do not count."""
    every = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in every if path.is_dir() and not path.name.startswith("."))


def _check_folder_name(name: str, part: str) -> None:
    if not part or part[0] in ".-" or "/" in part or "\\" in part or not part.isprintable():
        raise UserError(
            f"NAME={name!r}: expected the name of a sweep, got {part!r}. A name does not begin with a dot or dash, and"
            " contains no slash or line break. Rename the sweep file."
        )
    if len(os.fsencode(part)) > _MOST_BYTES:
        raise UserError(f"NAME={name[:40]}...: expected at most {_MOST_BYTES} bytes. Rename the sweep file.")


def names_of_cells(name: str) -> list[str]:
    """The cells of a sweep that have started, as `sweep/cell`; the sweep itself if it has none."""
    path = sweep_path(name)
    return [f"{path.name}/{cell.name}" for cell in folders_in(path / CELLS)] or [name]
