"""Writes a kept student in the formats that other programs read."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.files.cache import replaced_whole
from kdas.students.student import Student

# Of the entry that describes the student in a file of any format.
KEY = "kdas"
# With a batch of one image, exporters would fix that number.
_EXAMPLE_BATCH = 2
_ONNX_OPSET = 20
_MOST_OF_PIXEL = 255


def export(student: Student, path: Path, kind: str) -> None:
    """Write a student to a file. Args: kind: one of `FORMATS`.

    `pth` and `safetensors` hold the weights, under the names that the field's code bases use. `pt2` and `onnx` hold the
    network from float images float32 [B, 3, H, W], normalised, to logits [B, C], for any B. Each also holds
    `metadata_of` as a JSON text, under `KEY`.

    Raises: UserError: if a package is missing, or the network cannot be exported.
    """
    student = student.cpu().eval()
    with replaced_whole(path) as temporary:
        FORMATS[kind](student, temporary)


def metadata_of(student: Student) -> dict[str, Any]:
    """What another program needs to show images to an exported student, as plain data.

    `pixel_mean` and `pixel_std` are for pixel values from 0 to 255, `mean` and `std` for values from 0 to 1.
    """
    about = student.about
    return {
        "student": about.student,
        "trial_id": about.trial_id,
        "num_classes": about.num_classes,
        "class_names": student.class_names,
        "channels": "RGB",
        "image_size": about.image_size,
        "shorter_side": about.shorter_side,
        "mean": [value / _MOST_OF_PIXEL for value in about.pixel_mean],
        "std": [value / _MOST_OF_PIXEL for value in about.pixel_std],
        "pixel_mean": about.pixel_mean,
        "pixel_std": about.pixel_std,
        "normalisation": "(pixels / 255 - mean) / std, the same as (pixels - pixel_mean) / pixel_std",
    }


def _metadata(student: Student) -> dict[str, str]:
    return {KEY: json.dumps(metadata_of(student))}


def _as_pth(student: Student, path: Path) -> None:
    about = student.about
    row = student.row
    checkpoint.write(
        path,
        {
            "model": _plain(student),
            "epoch": row["epoch"],
            "arch": about.student,
            "num_classes": about.num_classes,
            "class_names": about.class_names,
            "best_acc": 100 * row["test_accuracy"],
            **_metadata(student),
        },
    )


def _as_safetensors(student: Student, path: Path) -> None:
    path.write_bytes(save(_plain(student), metadata={"format": "pt", **_metadata(student)}))


def _as_pt2(student: Student, path: Path) -> None:
    with _quiet(), _refused(student, "pt2"):
        program = torch.export.export(student.model, (_example(student),), dynamic_shapes=({0: _any_number()},))
        with path.open("wb") as file:
            torch.export.save(program, file, extra_files=_metadata(student))


def _as_onnx(student: Student, path: Path) -> None:
    missing = [package for package in ("onnx", "onnxscript") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"format onnx needs {' and '.join(missing)}. Install them: pip install 'kdas-sweeps[onnx]'.")
    with _quiet(), _refused(student, "onnx"):
        program = torch.onnx.export(
            student.model,
            (_example(student),),
            dynamo=True,
            verbose=False,
            opset_version=_ONNX_OPSET,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: _any_number()},),
        )
        assert program is not None
        network = program.model_proto  # built at each access
        for key, value in _metadata(student).items():
            network.metadata_props.add(key=key, value=value)
        path.write_bytes(network.SerializeToString())


# What `export` writes, by the suffix of the file.
FORMATS: dict[str, Callable[[Student, Path], None]] = {
    "safetensors": _as_safetensors,
    "pth": _as_pth,
    "pt2": _as_pt2,
    "onnx": _as_onnx,
}


def _plain(student: Student) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in student.model.state_dict().items()
    }


def _example(student: Student) -> Tensor:
    size = student.about.image_size
    return torch.zeros(_EXAMPLE_BATCH, 3, size, size)


def _any_number() -> torch.export.Dim:
    return torch.export.Dim("batch", min=1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own remarks, which are about their code."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


@contextmanager
def _refused(student: Student, kind: str) -> Iterator[None]:
    """One line for a network that an exporter cannot follow, for example one that branches on its images."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        reason = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"{student.about.student} cannot be exported as {kind}: {reason}. Use safetensors or pth."
        ) from error
