"""What a kept student sees in image files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from kdas.data.decoding import DECODING_ERRORS, opened, rgb
from kdas.data.pixels import square
from kdas.errors import UserError
from kdas.students.student import Student

# How often an image's longer side may hold its shorter side, which is resized to the network's.
_MOST_NARROW = 200


@torch.no_grad()
def predict(student: Student, path: Path, top: int = 5) -> list[tuple[str, float]]:
    """The likeliest classes of an image file, each with its probability, likeliest first.

    The image is decoded, resized and cut as test images are.

    Raises: UserError: if the file cannot be read as an image.
    """
    about = student.about
    try:
        with opened(path) as file:
            width, height = file.size
            if max(width, height) > _MOST_NARROW * min(width, height):
                raise UserError(f"{path}: is {width}x{height}, too narrow to be resized. Give another file.")
            image = square(rgb(file), about.image_size, about.shorter_side)
    except OSError as error:
        reason = error.strerror or "not an image that Pillow reads"
        raise UserError(f"{path}: {reason}. Give an image file.") from error
    except DECODING_ERRORS as error:
        raise UserError(f"{path}: cannot be read as an image: {error}. Give another file.") from error
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(student.pixel_mean.device)
    probabilities, classes = student(pixels).softmax(dim=1)[0].topk(min(top, about.num_classes))
    return [
        (student.class_names[number], probability)
        for number, probability in zip(classes.tolist(), probabilities.tolist(), strict=True)
    ]
