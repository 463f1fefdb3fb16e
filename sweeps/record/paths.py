"""The path of a sweep on disk, and the names of its folders and phases."""

from __future__ import annotations

import os
from pathlib import Path

from kdas.errors import UserError

# The folder in a sweep that contains its cells, and the file with the terms of measurement.
CELLS, MEASURE = "cells", "measure.json"
# The phases of a sweep.
SEARCH, CONFIRM = "search", "confirm"


def runs_root() -> Path:
    """The folder of all sweeps: `RUNS_DIR`, else `runs`."""
    return Path(os.environ.get("RUNS_DIR") or "runs").expanduser().absolute()


def sweep_path(name: str) -> Path:
    """The folder of a sweep, by its name or the path of its file; `sweep/cell` means one of its cells.

    Raises: UserError: if the name is empty.
    """
    if not name.strip():
        raise UserError("NAME is not given. Name a sweep: NAME=digits_kd, or the path of its file.")
    sweep, _, cell = (Path(name).stem if Path(name).suffix in {".yaml", ".yml"} else name).partition("/")
    return runs_root() / sweep / CELLS / cell if cell else runs_root() / sweep


def names_of_cells(name: str) -> list[str]:
    """The cells of a sweep that have started, as `sweep/cell`; the sweep itself if it has none."""
    path = sweep_path(name)
    folder = path / CELLS
    cells = sorted(each.name for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    return [f"{path.name}/{cell}" for cell in cells] or [name]
