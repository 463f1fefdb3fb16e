"""How often the teacher is right: on the deciding split, cached by weights and data, and on training views."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kdas import models, seeding
from kdas.compute.device import whole_machine
from kdas.compute.evaluate import accuracy
from kdas.compute.precision import Precision
from kdas.data import Dataset, Draw, ImageSplits, batches_of
from kdas.errors import UserError
from kdas.files.cache import cache_root, content_id, write_text
from kdas.records import MEASURE_VERSION
from kdas.teacher.obtain import Teacher, code_of
from kdas.transforms import Pipeline

if TYPE_CHECKING:
    from kdas.recipe.config import Recipe

# By how much an accuracy must exceed chance: standard errors of a guesser's accuracy, and a difference of fractions.
_ERRORS_ABOVE, _POINTS_ABOVE = 3.0, 0.05
# Enough for a standard error of at most 3 points.
VIEWS_JUDGED = 256


@dataclass(frozen=True)
class TeacherQuality:
    """Fractions on the deciding split. `chance`: accuracy of the best constant guess; `clear_from`: lowest accuracy
    that is clearly above chance.
    """

    accuracy: float
    chance: float
    clear_from: float

    @property
    def is_near_chance(self) -> bool:
        return self.accuracy < self.clear_from


def teacher_quality(
    recipe: Recipe,
    dataset: Dataset,
    splits: ImageSplits,
    teacher: Teacher,
    device: str,
    announce: Callable[[], None] = lambda: None,
) -> TeacherQuality:
    """The teacher's quality, evaluated like a student's. No trial is charged for it.

    The accuracy is cached in `KDAS_CACHE/teacher_accuracy`, by data, weights and what it was computed in.

    Args: announce: called before anything is evaluated.
    """
    identity = {
        "teacher": recipe.teacher.model,
        "weights": teacher.weights_id,
        "code": code_of(recipe.teacher),
        "dataset": dataset.identity,
        "validation": recipe.validation,
        "computed_in": [recipe.precision, recipe.multi_crop],
        "device": device,
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
    }
    name = f"{dataset.name}-{models.file_name(recipe.teacher.model)}-{content_id(identity)}.json"
    path = cache_root() / "teacher_accuracy" / name
    measured = _kept(path)
    if measured is None:
        announce()
        with whole_machine():
            precision = Precision(recipe.precision, device)
            measured = accuracy(teacher.model, splits.validation, splits, recipe.multi_crop, precision)
        with suppress(UserError):  # where it cannot be kept, the next start measures it again
            write_text(path, json.dumps({"accuracy": measured}))
    labels = torch.bincount(splits.validation.labels.cpu(), minlength=splits.num_classes)
    chance = max(1 / splits.num_classes, float(labels.max() / labels.sum()))
    return TeacherQuality(measured, chance, clearly_above(chance, int(labels.sum())))


def member_qualities(
    recipe: Recipe, dataset: Dataset, splits: ImageSplits, teacher: Teacher, device: str
) -> dict[str, TeacherQuality]:
    """The quality of each of several teachers, by its model, numbered if that occurs twice; none of a single one."""
    found: dict[str, TeacherQuality] = {}
    if not teacher.members:
        return found
    names = [config.model for config in recipe.teacher.members]
    for number, (config, member) in enumerate(zip(recipe.teacher.members, teacher.members, strict=True)):
        alone = recipe.model_copy(update={"teacher": config})
        name = config.model if names.count(config.model) == 1 else f"{config.model} ({number + 1})"
        found[name] = teacher_quality(alone, dataset, splits, member, device)
    return found


@torch.no_grad()
def share_right(recipe: Recipe, splits: ImageSplits, teacher: Teacher, device: str) -> float:
    """The share of training views that the teacher classifies as their label, as in a trial: after the transforms.

    Estimated from `VIEWS_JUDGED` views; 0 if none of them can be read.
    """
    transforms, precision = Pipeline(recipe.transforms, splits), Precision(recipe.precision, device)
    order = torch.randperm(len(splits.train), generator=seeding.generator(0, "views judged"))[:VIEWS_JUDGED]
    draw, num_right, num_judged = Draw(seed=0, epoch=1), 0, 0
    with whole_machine(), precision.autocast():
        for indices, images in splits.training_batches(batches_of(order, recipe.batch_size), draw):
            if not len(indices):
                continue  # none of them could be read
            views = transforms(images, splits.train.labels[indices], indices, draw)
            num_right += int((teacher.model(views.images).argmax(dim=1) == views.targets).sum())
            num_judged += len(indices)
    return num_right / max(num_judged, 1)


def clearly_above(chance: float, num_images: int) -> float:
    """The least accuracy that is clearly above `chance`, a fraction, on this many images.

    Three standard errors of a guesser above it, and 5 points; fewer points where chance or its complement is small:
    twice chance is clear at 100 classes, half the way to 1 where nearly all images are of one class.
    """
    error = math.sqrt(chance * (1 - chance) / num_images)
    return chance + max(_ERRORS_ABOVE * error, min(_POINTS_ABOVE, chance, (1 - chance) / 2))


def _kept(path: Path) -> float | None:
    """The cached accuracy; None if it is missing or damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))["accuracy"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return float(kept) if isinstance(kept, (int, float)) and 0 <= kept <= 1 else None
