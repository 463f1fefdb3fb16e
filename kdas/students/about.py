"""The description beside the weights of a kept student. Read without torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kdas.errors import UserError
from kdas.files.cache import file_id, write_text
from kdas.files.record import record_bytes

BEST, LAST, ABOUT = "model.safetensors", "last.safetensors", "student.json"
# Raised when a reader of the earlier form would misread a newer one.
FORM = 1
# What is told of an evaluation.
OF_EVALUATION = (
    "epoch",
    "step",
    "samples_trained",
    "cost_ref_s",
    "wall_s",
    "val_accuracy",
    "test_accuracy",
    "device",
)


@dataclass(frozen=True)
class About:
    """The content of `student.json`.

    `shorter_side`: what an image's shorter side is resized to before its centre is taken. `pixel_mean`, `pixel_std`: of
    each channel, for pixel values from 0 to 255. `decided_by`: the split by which `best` was chosen among the
    evaluations. `best`, `last`: their evaluations, with `OF_EVALUATION`. `recipe`: the settings of the trial, as in a
    trial file. `files`: a hash of each file of weights. `data`: name, origin and identity of the data set. `teacher`:
    its model and a hash of its weights. `provenance`: see `kdas.training.provenance`. `sweep`: of a student that a
    sweep keeps, the sweep's name, and the trial's method, phase and configuration.
    """

    student: str
    num_classes: int
    class_names: list[str]
    image_size: int
    shorter_side: int
    pixel_mean: list[float]
    pixel_std: list[float]
    trial_id: str
    decided_by: str
    best: dict[str, Any]
    last: dict[str, Any]
    recipe: dict[str, Any]
    data: dict[str, Any]
    teacher: dict[str, str]
    provenance: dict[str, str]
    files: dict[str, str]
    sweep: dict[str, str] = field(default_factory=dict)


def write_about(folder: Path, about: About) -> None:
    """Write the description: a student without it is not complete."""
    write_text(folder / ABOUT, json.dumps({"form": FORM, **asdict(about)}, indent=1))


def read_about(folder: Path) -> About:
    """The description in a student's folder. Raises: UserError: if it is missing or damaged."""
    path = folder / ABOUT
    if not folder.is_dir():
        raise UserError(f"{folder}: expected the folder of a kept student. Give one that holds {ABOUT}.")
    try:
        content = json.loads(record_bytes(path).decode())
        form = content.pop("form")
    except FileNotFoundError as error:
        raise UserError(f"{folder}: holds no {ABOUT}, so it is not a kept student. Give the folder of one.") from error
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is damaged. Copy the student again, or train it again.") from error
    if form != FORM:
        raise UserError(f"{path}: was written by a later version of this program. Update kdas-sweeps.")
    try:
        return About(**content)
    except TypeError as error:
        raise UserError(f"{path}: is damaged. Copy the student again, or train it again.") from error


def weights_file(folder: Path, about: About, *, last: bool = False) -> Path:
    """The file of the best or the last weights. Raises: UserError: if it is missing, or not as it was written."""
    path = folder / (LAST if last else BEST)
    try:
        is_intact = file_id(path) == about.files.get(path.name)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. Copy the student again.") from error
    if not is_intact:
        raise UserError(f"{path}: is not the file that {ABOUT} describes. Copy the student again, or train it again.")
    return path
