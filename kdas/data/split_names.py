"""What folders and files of a set's parts are called."""

from __future__ import annotations

from pathlib import Path

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "validation", "valid", "dev")


def part_in(folder: Path, names: tuple[str, ...]) -> Path:
    """The folder below `folder` with one of these names, in capitals or not; the usual one where there is none."""
    there = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    return next((there[name] for name in names if name in there), folder / names[0])
