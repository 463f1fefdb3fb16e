"""Which bank a trial uses, and opening it: a damaged or foreign file is rebuilt."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock

from kdas import models
from kdas.compute.precision import Precision
from kdas.data import Dataset, ImageSplits
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, writable_folder
from kdas.losses.terms import FEATURES, needs_of
from kdas.records import MEASURE_VERSION
from kdas.teacher.bank.answers import TeacherBank
from kdas.teacher.bank.store import BankStore, Shape, create, read_header
from kdas.teacher.obtain import Teacher

if TYPE_CHECKING:
    from kdas.recipe.config import Recipe

# A bank that nobody asked for by name may take so much of a disk.
LARGEST_UNASKED_BYTES = 32 * 2**30


def banks_root() -> Path:
    """The folder that holds all banks of this machine."""
    return cache_root() / "banks"


def bank_precision(recipe: Recipe, dataset: Dataset, splits: ImageSplits) -> str | None:
    """What answers are kept in; None where the teacher runs live, because no bank would be exact or none is wanted.

    A function of the file and the data alone, never of what a machine has room for: it decides the curve.

    Raises: UserError: if a bank was asked for by name and cannot be exact.
    """
    if recipe.bank == "live":
        return None
    reason = ""
    if splits.views.num_views is None:
        reason = f"{dataset.name} has unlimited views. Set dataset.fixed_views, or bank:"
    elif not FEATURES.isdisjoint(needs_of(recipe.loss)):
        reason = "this loss needs the teacher's features, but a bank contains only logits. Set bank:"
    if recipe.bank != "auto":
        if reason:
            raise UserError(f"bank: {recipe.bank} cannot be exact: {reason} live.")
        return recipe.bank
    if reason or _shape(splits, "float16").num_bytes > LARGEST_UNASKED_BYTES:
        return None
    return "float16"


def open_bank(
    recipe: Recipe, dataset: Dataset, splits: ImageSplits, teacher: Teacher, device: str, *, check: bool = False
) -> TeacherBank | None:
    """The bank of a trial, made if it is not there; None where the teacher runs live.

    A file that is damaged or belongs to another teacher is rebuilt.

    Args: check: also ask the teacher about a few of the answers.
    Raises: UserError: if the disk has no room for it, or if it cannot be exact and was asked for by name.
    """
    precision = bank_precision(recipe, dataset, splits)
    if precision is None:
        return None
    shape, identity = _shape(splits, precision), _identity(recipe, dataset, splits, teacher, device)
    known_by = content_id([identity, asdict(shape)])
    path = banks_root() / f"{dataset.name}-{models.file_name(recipe.teacher.model)}-{known_by}.bank"
    writable_folder(path.parent)

    def opened() -> TeacherBank:
        with FileLock(f"{path}.lock"):
            if path.exists() and read_header(path) != (shape, identity):
                _refuse(path, "is damaged or belongs to another teacher")
            if not path.exists():
                _check_room(path, shape)
                create(path, shape, identity)
            with suppress(OSError):
                os.utime(path)  # when it was used last
            store = BankStore(path, shape)
        # It is asked as it is: translated by torch.compile it might answer otherwise.
        return TeacherBank(store, teacher.model, splits, Precision(recipe.precision, device))

    bank = opened()
    if check and not bank.agrees():
        with FileLock(f"{path}.lock"):
            _refuse(path, "contains answers that differ from its teacher's")
        bank = opened()
    return bank


def _shape(splits: ImageSplits, precision: str) -> Shape:
    num_views = splits.views.num_views
    assert num_views is not None
    return Shape(splits.num_images, num_views, splits.num_classes, precision)


def _identity(recipe: Recipe, dataset: Dataset, splits: ImageSplits, teacher: Teacher, device: str) -> dict[str, Any]:
    """All that decides an answer."""
    content = {
        "teacher": recipe.teacher.model,
        "weights": teacher.weights_id,
        "code": models.source_id(recipe.teacher.model),
        "dataset": dataset.identity,
        "views": [type(splits.views).__name__, asdict(splits.views)],
        "computed_in": recipe.precision,
        "device": device,
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
    }
    # As it will be read again: tuples become lists.
    kept: dict[str, Any] = json.loads(json.dumps(content))
    return kept


def _refuse(path: Path, why: str) -> None:
    warnings.warn(f"{path}: {why}. Rebuilding it.", stacklevel=3)
    path.unlink(missing_ok=True)


def _check_room(path: Path, shape: Shape) -> None:
    free = shutil.disk_usage(path.parent).free
    if shape.num_bytes > free:
        raise UserError(
            f"bank: needs up to {shape.num_bytes / 1e9:.1f} GB in {path.parent}, which has {free / 1e9:.1f} GB free."
            " Free some space, choose another folder with KDAS_CACHE, or set bank: live."
        )
