"""Where a sweep lies, and what its folder and its phases are called."""

from __future__ import annotations

import os
from pathlib import Path

from kdas.errors import UserError

# The folder of a sweep that holds those of its cells, and the file that says what it is measured by.
CELLS, MEASURE = "cells", "measure.json"
# The phases of a sweep.
SEARCH, CONFIRM = "search", "confirm"


def runs_root() -> Path:
    """The folder of all sweeps: `RUNS_DIR`, else `runs`."""
    return Path(os.environ.get("RUNS_DIR") or "runs").expanduser().absolute()


def sweep_path(name: str) -> Path:
    """Where a sweep lies: under what the user called it, or the stem of the file; `sweep/cell` is one of its cells.

    Raises: UserError: if there is no name.
    """
    if not name.strip():
        raise UserError("NAME is not given. Name a sweep: NAME=digits_kd, or the path of its file.")
    sweep, _, cell = (Path(name).stem if Path(name).suffix in {".yaml", ".yml"} else name).partition("/")
    return runs_root() / sweep / CELLS / cell if cell else runs_root() / sweep


def names_of_cells(name: str) -> list[str]:
    """The sweeps that one consists of, `sweep/cell` each, those that have begun; itself where it has no cells."""
    path = sweep_path(name)
    folder = path / CELLS
    cells = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    return [f"{path.name}/{cell}" for cell in cells] or [name]
