"""What student and teacher are asked for: logits alone, or also the features or maps that a loss needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

from kdas import models, seeding
from kdas.errors import UserError
from kdas.losses import Distillation, LossContext, LossNeed
from kdas.losses.interface import FEATURES, MAPS, MapShape
from kdas.losses.terms import needs_of
from kdas.models import Model
from kdas.models.layers import check_layers, teacher_batch_norms, with_maps
from kdas.recipe.config import TrialConfig
from kdas.training.batch import Answer

# From images to the parts of an `Answer`, as plain tuples, which torch.compile can follow.
Parts = tuple[Tensor, Tensor | None, tuple[Tensor, ...], tuple[Tensor, ...]]
Answering = Callable[[Tensor], Parts]
Who = Literal["student", "teacher"]


class Asked(IntEnum):
    """How much of a model's answer the losses need."""

    LOGITS = 0
    FEATURES = 1
    MAPS = 2


def asked_of(config: TrialConfig, who: Who) -> Asked:
    """How much the trial's losses need of one of the models at each step."""
    needs = {need for need in needs_of(config.loss) if need.startswith(who)}
    if not MAPS.isdisjoint(needs):
        return Asked.MAPS
    return Asked.LOGITS if FEATURES.isdisjoint(needs) else Asked.FEATURES


def answering(model: Model, asked: Asked, layers: Sequence[str] | None) -> Answering:
    """A function from images [B, 3, H, W] to the part of the model's answer that is asked for."""
    if asked is Asked.LOGITS:
        return lambda images: (model(images), None, (), ())
    if asked is Asked.FEATURES:
        return lambda images: (*model.forward_with_features(images), (), ())
    mapped = with_maps(model, layers)

    def with_all_maps(images: Tensor) -> Parts:
        logits, features, maps, preact_maps = mapped(images)
        return logits, features, tuple(maps), tuple(preact_maps)

    return with_all_maps


@torch.no_grad()
def check_maps(config: TrialConfig, num_classes: int, image_size: int) -> None:
    """Refuse models that cannot give what a loss needs, before any compute is spent.

    Raises: UserError: says which layer is missing, that the model does not name its own, or what a loss says of its
        maps.
    """
    # Losses that need maps are refused for several teachers, but one on the student's maps alone is not.
    first = next(iter(config.teacher.members), None)
    names: dict[Who, str] = {"student": config.student, "teacher": first.model if first else config.student}
    if Asked.MAPS not in {asked_of(config, who) for who in names}:
        return
    made: dict[str, Model] = {}
    with seeding.global_draws(0, "check of layers"):
        for who, name in names.items():
            made[who] = model = models.create(name, num_classes).eval()
            if asked_of(config, who) is not Asked.MAPS:
                continue
            layers = getattr(config, f"{who}_layers")
            check_layers(model, layers, f"{who}_layers")
            try:
                with_maps(model, layers)(torch.zeros(2, 3, image_size, image_size))
            except UserError as error:
                raise UserError(f"{who}_layers: {error}") from error
    context = context_of(
        config,
        **made,
        labels=torch.arange(num_classes),
        num_classes=num_classes,
        image_size=image_size,
        class_means=lambda: torch.zeros(num_classes, 1),
    )
    with seeding.global_draws(0, "check of losses"):
        Distillation(config.loss, context)


def context_of(
    config: TrialConfig,
    student: Model,
    teacher: Model,
    labels: Tensor,
    num_classes: int,
    image_size: int,
    class_means: Callable[[], Tensor],
) -> LossContext:
    """What the losses may know of the trial: sizes from one forward pass, and only if one needs them."""
    plain = LossContext(
        0, 0, class_means, num_classes=num_classes, num_samples=len(labels), labels=labels, epochs=config.epochs
    )
    if (FEATURES | MAPS).isdisjoint(needs_of(config.loss)):
        return plain
    # Both widths are known, also of a model that a step asks for its logits only.
    of_student_asked, of_teacher_asked = (max(asked_of(config, who), Asked.FEATURES) for who in ("student", "teacher"))
    images = torch.zeros((2, 3, image_size, image_size), device=labels.device)
    student.eval()
    with torch.no_grad():
        of_student = Answer(*answering(student, of_student_asked, config.student_layers)(images))
        of_teacher = Answer(*answering(teacher, of_teacher_asked, config.teacher_layers)(images))
    student.train()
    assert of_student.features is not None and of_teacher.features is not None
    norms = LossNeed.TEACHER_BATCH_NORMS in needs_of(config.loss)
    return replace(
        plain,
        student_width=of_student.features.shape[1],
        teacher_width=of_teacher.features.shape[1],
        student_maps=_shapes(of_student.maps),
        teacher_maps=_shapes(of_teacher.maps),
        student_preact_maps=_shapes(of_student.preact_maps),
        teacher_preact_maps=_shapes(of_teacher.preact_maps),
        teacher_batch_norms=teacher_batch_norms(teacher, config.teacher_layers, image_size) if norms else (),
    )


def _shapes(maps: Sequence[Tensor]) -> tuple[MapShape, ...]:
    return tuple((each.shape[1], each.shape[2], each.shape[3]) for each in maps)
