"""Kept weights that a trial begins with: those that its student starts from, and those of its sampler's reference."""

from __future__ import annotations

import copy
import functools

from torch import Tensor

from kdas import models, seeding
from kdas.errors import UserError
from kdas.files.home import expanded
from kdas.models import Model
from kdas.models.weights import load_weights, weights_id
from kdas.recipe.config import Recipe, TrialConfig
from kdas.samplers import SamplerNeed, network_of


def load_start(student: Model, config: Recipe, num_classes: int) -> None:
    """Fill a student with the weights that it starts from, if the recipe names any.

    Raises: UserError: if they are missing or do not fit.
    """
    if config.student_checkpoint:
        student.load_state_dict(start_weights(config, num_classes))


def start_weights(config: Recipe, num_classes: int) -> dict[str, Tensor]:
    """The weights that a student starts from; the recipe names some. Raises: as `load_start`."""
    assert config.student_checkpoint
    start, _ = _kept(config.student, config.student_checkpoint, num_classes, "student.checkpoint")
    return dict(start.state_dict())


def start_id(config: Recipe, num_classes: int) -> str:
    """A hash of the weights that a student starts from; "" if it starts from random ones. Raises: as `load_start`."""
    if not config.student_checkpoint:
        return ""
    return _kept(config.student, config.student_checkpoint, num_classes, "student.checkpoint")[1]


def reference_of(config: TrialConfig, num_classes: int) -> Model | None:
    """The reference that the sampler compares the student with: a frozen student in eval mode; None without a need.

    Raises: UserError: if its weights are missing or not those of a student like this one.
    """
    checkpoint = network_of(config.sampler, SamplerNeed.REFERENCE_LOGITS)
    if not checkpoint:
        return None
    kept, _ = _kept(config.student, checkpoint, num_classes, "sampler.reference")
    reference: Model = copy.deepcopy(kept).requires_grad_(False).eval()
    return reference


def reference_id(config: TrialConfig, num_classes: int) -> str:
    """A hash of the reference's weights; "" if the sampler needs none. Raises: as `reference_of`."""
    checkpoint = network_of(config.sampler, SamplerNeed.REFERENCE_LOGITS)
    return _kept(config.student, checkpoint, num_classes, "sampler.reference")[1] if checkpoint else ""


def reference_weights(student: str, checkpoint: str, num_classes: int) -> tuple[dict[str, Tensor], str]:
    """The weights of a sampler's reference, and a hash of them. Raises: as `reference_of`."""
    kept, weights = _kept(student, checkpoint, num_classes, "sampler.reference")
    return dict(kept.state_dict()), weights


@functools.lru_cache(maxsize=4)
def _kept(name: str, checkpoint: str, num_classes: int, key: str) -> tuple[Model, str]:
    # Read once in a process, so that its trials start from the same weights that their names tell of.
    with seeding.global_draws(0, "start of a student"):
        student = models.create(name, num_classes)
    try:
        load_weights(student, expanded(checkpoint), name)
    except UserError as error:
        raise UserError(f"{key}: {error}") from error
    return student, weights_id(student)
