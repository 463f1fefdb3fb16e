"""A kept student, ready for images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from kdas import models, seeding
from kdas.errors import UserError
from kdas.files.home import expanded
from kdas.models import Model
from kdas.models.weights import load_weights
from kdas.parts.plugins import require_plugins
from kdas.students.about import ABOUT, About, read_about, weights_file


class Student(nn.Module):
    """A trained network in eval mode, with what it takes to use it. `about` says how it was trained.

    `row`: the evaluation of these weights, which are the best ones or the last ones.
    `model` is the network itself, whose state dict has the field's names.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: Model, about: About, *, last: bool = False) -> None:
        super().__init__()
        self.model, self.about = model, about
        self.row = about.last if last else about.best
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(getattr(about, name), dtype=torch.float32).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)
        model.take_pixels(self.pixel_mean, self.pixel_std)

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; their numbers where the data set has no names."""
        return self.about.class_names or [str(number) for number in range(self.about.num_classes)]

    def forward(self, images: Tensor) -> Tensor:
        """Args: images [B, 3, H, W], uint8 as they are decoded, or float and normalised. Returns: logits [B, C]."""
        if images.dtype == torch.uint8:
            images = (images.float() - self.pixel_mean) / self.pixel_std
        logits: Tensor = self.model(images)
        return logits


def load_student(path: Path | str, *, last: bool = False, device: str = "cpu", own_code: bool = False) -> Student:
    """The student in a folder of `runs/<sweep>/students`, or one that `python -m kdas train --student` wrote.

    Args: last: the weights after the last step instead of the best ones; own_code: a student that is defined by your
        own code is only built if this is true, since building it runs the files that its description names.
    Raises: UserError: if it is missing, damaged, or of own code that was not allowed.
    """
    folder = expanded(str(path))
    about = read_about(folder)
    weights = weights_file(folder, about, last=last)
    if not own_code and (named := about.own_code):
        raise UserError(
            f"{folder}: to load it runs code of its own ({', '.join(named)}). Allow it: own_code=True, or --own-code."
        )
    # A classifier has a weight for each class at least: a false number would ask for any amount of memory.
    if 4 * about.num_classes > weights.stat().st_size:
        raise UserError(f"{folder / ABOUT}: {about.num_classes} classes are more than {weights.name} can hold.")
    require_plugins(about.recipe.get("plugins", []), f"{folder}: plugins:")
    # Drawing initial weights must not disturb the caller's generator.
    with seeding.global_draws(0, "a kept student"):
        model = models.create(about.student, about.num_classes)
    load_weights(model, weights, about.student)
    is_channels_last = about.recipe.get("channels_last", False)
    model = model.to(device).to(memory_format=torch.channels_last if is_channels_last else torch.contiguous_format)
    return Student(model, about, last=last).to(device).eval()
