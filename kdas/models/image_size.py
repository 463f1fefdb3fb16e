"""Checks whether a model can take images of a given size, before any compute is spent."""

from __future__ import annotations

import copy

import torch

from kdas import seeding
from kdas.errors import UserError
from kdas.models.interface import Model
from kdas.models.names import create
from kdas.parts.plugins import failure


def check_image_size(model: Model | str, num_classes: int, image_size: int, is_trained: bool = False) -> None:
    """Classify two blank images on the CPU.

    Args: model: on the CPU, or the name of one; image_size: height and width in pixels; is_trained: whether it must
        take them in train mode as well.
    Raises: UserError: if the forward pass fails, its logits are not finite [2, num_classes], or they are probabilities,
        on which softmax would act a second time; names model and size.
    """
    name = model if isinstance(model, str) else type(getattr(model, "network", model)).__name__
    if isinstance(model, str):
        with seeding.global_draws(0, "check of an image size"):
            model = create(model, num_classes)
    problem = _problem(model, num_classes, image_size)
    if not problem and is_trained:
        # A copy, because train mode updates batch statistics.
        problem = _problem(copy.deepcopy(model), num_classes, image_size, training=True)
    if problem:
        raise UserError(f"model {name} {problem}")


def _problem(model: Model, num_classes: int, image_size: int, training: bool = False) -> str:
    """Why the model cannot classify images of that size, and what to do; empty if it can."""
    cannot = f"cannot take images of {image_size}x{image_size} pixels"
    remedy = "Choose another model, or a dataset with other image sizes."
    was_training = model.training
    model.train(training)
    try:
        with torch.no_grad(), seeding.global_draws(0, "check of an image size"):
            logits = model(torch.zeros(2, 3, image_size, image_size))
    except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a model's code raises, it cannot take such images)
        return f"{cannot}: {failure(error).rstrip('!')}. {remedy}"
    finally:
        model.train(was_training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or len(logits) != 2:
        got = list(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        return f"returns {got} for two images, not logits [2, {num_classes}]. Return a row of logits for each image."
    if logits.shape[1] != num_classes:
        return (
            f"has other classes: expected {num_classes}, as the dataset has, got {logits.shape[1]} logits for an image."
            " Give its last layer num_classes outputs."
        )
    if not torch.isfinite(logits).all():
        return f"{cannot}: its logits are not finite. {remedy}"
    if num_classes > 1 and (logits >= 0).all() and torch.allclose(logits.sum(dim=1), torch.ones(2), atol=1e-4):
        return "returns probabilities: no output is negative, and each row sums to 1. Remove the softmax at its end."
    return ""
