"""The weights that a student starts from, if it does not start from random ones."""

from __future__ import annotations

import functools

from kdas import models, seeding
from kdas.errors import UserError
from kdas.files.home import expanded
from kdas.models import Model
from kdas.models.weights import load_weights, weights_id
from kdas.recipe.config import Recipe


def load_start(student: Model, config: Recipe, num_classes: int) -> None:
    """Fill a student with the weights that it starts from, if the recipe names any.

    Raises: UserError: if they are missing or do not fit.
    """
    if config.student_checkpoint:
        start, _ = _start(config.student, config.student_checkpoint, num_classes)
        student.load_state_dict(start.state_dict())


def start_id(config: Recipe, num_classes: int) -> str:
    """A hash of the weights that a student starts from; "" if it starts from random ones. Raises: as `load_start`."""
    return _start(config.student, config.student_checkpoint, num_classes)[1] if config.student_checkpoint else ""


@functools.lru_cache(maxsize=2)
def _start(name: str, checkpoint: str, num_classes: int) -> tuple[Model, str]:
    # Read once in a process, so that its trials start from the same weights that their names tell of.
    with seeding.global_draws(0, "start of a student"):
        student = models.create(name, num_classes)
    try:
        load_weights(student, expanded(checkpoint), name)
    except UserError as error:
        raise UserError(f"student.checkpoint: {error}") from error
    return student, weights_id(student)
