"""The description beside the weights of a kept student. Read without torch."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from kdas.errors import UserError
from kdas.files.cache import file_id, write_text
from kdas.files.record import record_bytes
from kdas.recipe.teacher import members_of

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


def _holding(*, or_empty: bool = False, **kinds: type | UnionType) -> AfterValidator:
    """Of a mapping: it must have these keys, with values of these types. Args: or_empty: it may also have no keys."""

    def checked(content: dict[str, Any]) -> dict[str, Any]:
        lacks = [key for key, kind in kinds.items() if not isinstance(content.get(key), kind)]
        if lacks and not (or_empty and not content):
            raise ValueError(f"lacks {', '.join(lacks)}")
        return content

    return AfterValidator(checked)


_Side = Annotated[int, Field(ge=1, le=4096)]
_Channels = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=3, max_length=3)]
# What is read of each block.
_Evaluation = Annotated[
    dict[str, Any],
    _holding(epoch=int, step=int, val_accuracy=int | float, test_accuracy=int | float, device=str),
]
_Recipe = Annotated[dict[str, Any], _holding(seed=int, dataset=dict, teacher=dict)]
_Data = Annotated[dict[str, Any], _holding(name=str, origin=str, identity=list)]
_Teacher = Annotated[dict[str, str], _holding(model=str, weights=str)]
_OfSweep = Annotated[dict[str, str], _holding(name=str, method=str, phase=str, configuration=str, or_empty=True)]


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
    num_classes: Annotated[int, Field(ge=1, le=10_000_000)]
    class_names: list[str]
    image_size: _Side
    shorter_side: _Side
    pixel_mean: _Channels
    pixel_std: _Channels
    trial_id: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    decided_by: str
    best: _Evaluation
    last: _Evaluation
    recipe: _Recipe
    data: _Data
    teacher: _Teacher
    provenance: dict[str, str]
    files: dict[str, str]
    sweep: _OfSweep = field(default_factory=dict)

    @property
    def own_code(self) -> list[str]:
        """What is code of the user's own in it: plug-ins, and models that are named by their module."""
        of_teacher = [member.get("model") for member in members_of(self.recipe["teacher"])]
        models = (self.student, self.recipe.get("student"), *of_teacher)
        named = [*self.recipe.get("plugins", []), *(model for model in models if ":" in str(model))]
        return list(dict.fromkeys(map(str, named)))


@functools.cache
def _adapter() -> TypeAdapter[About]:
    return TypeAdapter(About)


def write_about(folder: Path, about: About) -> None:
    """Write the description: a student without it is not complete."""
    write_text(folder / ABOUT, json.dumps({"form": FORM, **vars(about)}, indent=1))


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
        # As JSON, whose lists and numbers are those of the fields.
        about = _adapter().validate_json(json.dumps(content), strict=True)
        TypeAdapter(list[str]).validate_python(about.recipe.get("plugins", []), strict=True)
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{path}: is damaged. Copy the student again, or train it again.") from error
    return about


def check_free(folder: Path | None, trial_id: str) -> None:
    """Args: folder: where a student is to be kept; None for nowhere.

    Raises: UserError: if the folder holds the student of another trial, which must not be replaced."""
    if folder is None:
        return
    try:
        held = read_about(folder).trial_id
    except UserError:
        return
    if held != trial_id:
        raise UserError(f"{folder}: holds the student of another trial, {held}. Give another folder, or remove it.")


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
