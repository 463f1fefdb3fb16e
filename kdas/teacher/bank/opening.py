"""Chooses the bank of a trial and opens it; a damaged file, or one of another teacher, is rebuilt."""

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

from kdas import models
from kdas.compute.precision import Precision
from kdas.data import Dataset, ImageSplits
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, writable_folder
from kdas.files.locks import locked
from kdas.losses.interface import LIVE
from kdas.losses.terms import needs_of
from kdas.recipe.teacher import SelfTeacher
from kdas.records import MEASURE_VERSION
from kdas.teacher.bank.answers import TeacherBank
from kdas.teacher.bank.store import BankStore, Shape, create, read_header
from kdas.teacher.obtain import Teacher, code_of
from kdas.transforms import TRANSFORMS, TransformNeed

if TYPE_CHECKING:
    from kdas.recipe.config import Recipe

# The largest bank that `bank: auto` uses.
LARGEST_UNASKED_BYTES = 32 * 2**30


def banks_root() -> Path:
    """The folder that holds all banks of this machine."""
    return cache_root() / "banks"


def bank_precision(recipe: Recipe, dataset: Dataset, splits: ImageSplits) -> str | None:
    """Precision of the kept answers; None if the teacher runs live, because no bank is possible or wanted.

    Depends only on the file and the data, never on the free space of a machine, because it changes the curve.

    Raises: UserError: if the file asks for a bank of some precision, but no bank is possible.
    """
    if recipe.bank == "live":
        return None
    reason = ""
    if splits.views.num_views is None:
        reason = f"{dataset.name} has unlimited views. Set dataset.fixed_views, or bank:"
    elif not LIVE.isdisjoint(needs_of(recipe.loss)):
        reason = (
            "this loss needs the teacher's features, maps or strong views, but a bank contains only logits. Set bank:"
        )
    if isinstance(recipe.teacher, SelfTeacher):
        reason = "with teacher: self, answers change with every epoch. Set bank:"
    live = [part["name"] for part in recipe.transforms if TransformNeed.LIVE_TEACHER in TRANSFORMS[part["name"]].needs]
    if live:
        reason = (
            f"the teacher must see what {live[0]} makes of a view, but a bank contains its answers to views. Set bank:"
        )
    if recipe.bank != "auto":
        if reason:
            raise UserError(f"bank: {recipe.bank} is not possible: {reason} live.")
        return recipe.bank
    if reason or _shape(splits, "float16").num_bytes > LARGEST_UNASKED_BYTES:
        return None
    return "float16"


def open_bank(
    recipe: Recipe, dataset: Dataset, splits: ImageSplits, teacher: Teacher, device: str, *, check: bool = False
) -> TeacherBank | None:
    """The bank of a trial, created if it is missing; None if the teacher runs live.

    A file that is damaged or belongs to another teacher is rebuilt.

    Args: check: also compare a few of the answers with the teacher's.
    Raises: UserError: if the disk has no room for it, or if the file asks for a bank where none is possible.
    """
    precision = bank_precision(recipe, dataset, splits)
    if precision is None:
        return None
    shape, identity = _shape(splits, precision), _identity(recipe, dataset, splits, teacher, device)
    known_by = content_id([identity, asdict(shape)])
    path = banks_root() / f"{dataset.name}-{models.file_name(recipe.teacher.model)}-{known_by}.bank"
    writable_folder(path.parent)
    lock = path.with_name(f"{path.name}.lock")

    def opened() -> TeacherBank:
        with locked(lock):
            if path.exists() and read_header(path) != (shape, identity):
                _refuse(path, "is damaged or belongs to another teacher")
            if not path.exists():
                _check_room(path, shape)
                create(path, shape, identity)
            with suppress(OSError):
                os.utime(path)  # the time of its last use
            store = BankStore(path, shape)
        # The teacher is not compiled: torch.compile might change its answers.
        return TeacherBank(store, teacher.model, splits, Precision(recipe.precision, device))

    bank = opened()
    if check and not bank.agrees():
        with locked(lock):
            _refuse(path, "contains answers that differ from its teacher's")
        bank = opened()
    return bank


def _shape(splits: ImageSplits, precision: str) -> Shape:
    num_views = splits.views.num_views
    assert num_views is not None
    return Shape(splits.num_images, num_views, splits.num_classes, precision)


def _identity(recipe: Recipe, dataset: Dataset, splits: ImageSplits, teacher: Teacher, device: str) -> dict[str, Any]:
    """Everything that can change an answer."""
    content = {
        "teacher": recipe.teacher.model,
        "weights": teacher.weights_id,
        "code": code_of(recipe.teacher),
        "dataset": dataset.identity,
        "views": [type(splits.views).__name__, asdict(splits.views)],
        "computed_in": recipe.precision,
        "device": device,
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
    }
    # As it will be read back: tuples become lists.
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
