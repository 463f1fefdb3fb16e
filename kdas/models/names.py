"""Models by the name that a file gives: registered here, torchvision's, timm's, or the user's own."""

from __future__ import annotations

import re

from kdas.errors import UserError
from kdas.models import libraries, own
from kdas.models.interface import MODELS, Model

BESIDE_THE_ZOO = (
    "Also torchvision/<name> for any classifier of torchvision (torchvision/resnet18), timm/<name> for any of timm\n"
    "(timm/resnet18; pip install 'kdas-sweeps[timm]'), and package.module:Name for your own: a class or function that\n"
    "takes num_classes and returns a torch.nn.Module from images to logits. With @own at its end, as in\n"
    "timm/vit_tiny_patch16_224@own, a name of a library stands for the classifier with images resized and normalised\n"
    "as its published weights expect."
)


def check_name(name: str) -> str:
    """`name`, if it names a model.

    Raises: ValueError: if it does not; the message gives the nearest name, or says what is missing.
    """
    if libraries.has(name):
        return libraries.check(name)
    if own.SEPARATOR in name:
        return own.check(name)
    try:
        MODELS[name]
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    return name


def file_name(name: str) -> str:
    """`name` in a form that file names allow: torchvision's models have a slash in theirs, users' own a colon."""
    return re.sub(r"[^\w.-]", "-", name)


def source_id(name: str) -> str:
    """A hash of the code of a user's own model; empty for models of this project, torchvision or timm."""
    return own.source_id(name) if own.SEPARATOR in name and not libraries.has(name) else ""


def create(name: str, num_classes: int = 100) -> Model:
    """A freshly initialised model, drawn from torch's global generator (see `seeding.global_draws`).

    Raises: UserError: if there is no such model, or the code of one's own model fails.
    """
    try:
        if libraries.has(name):
            return libraries.build(name, num_classes)
        if own.SEPARATOR in name:
            return own.build(name, num_classes)
        model = MODELS.build({"name": check_name(name)}, num_classes)
        own.refuse_lazy(model, name)
        return model
    except ValueError as error:
        text = str(error).rstrip(".")
        raise UserError(f"model {text}" if text.endswith("?") else f"model {text}.") from error
