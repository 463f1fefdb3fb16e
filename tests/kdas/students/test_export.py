"""Exported networks give what the student gives, for any number of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import kdas
from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.models import Model
from kdas.students.export import export
from kdas.students.student import Student
from kdas.training.trainer import Surroundings, Training


@pytest.fixture(scope="module")
def student(
    tmp_path_factory: pytest.TempPathFactory,
    finished: Callable[..., tuple[Training, list[Any]]],
    calibration: Calibration,
) -> Student:
    folder = tmp_path_factory.mktemp("kept") / "student"
    training, _ = finished(Surroundings(calibration, keeps_student=True), epochs=1)
    training.write_student(folder)
    return kdas.load_student(folder)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def test_onnx(student: Student, images: torch.Tensor, tmp_path: Path) -> None:
    export(student, tmp_path / "student.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "student.onnx", providers=["CPUExecutionProvider"])
    for number in (1, 5):
        (logits,) = session.run(None, {"images": images[:number].numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(logits), student(images[:number]), rtol=0, atol=1e-5)


def test_pt2(student: Student, images: torch.Tensor, tmp_path: Path) -> None:
    export(student, tmp_path / "student.pt2", "pt2")
    program = torch.export.load(tmp_path / "student.pt2").module()
    for number in (1, 5):
        with torch.no_grad():
            assert torch.allclose(program(images[:number]), student(images[:number]), rtol=0, atol=1e-5)


class Branching(Model):
    def forward_with_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = images.mean((2, 3)) if images.sum() > 0 else images.amax((2, 3))
        return features, features


def test_a_network_that_cannot_be_followed_is_one_line(student: Student, tmp_path: Path) -> None:
    odd = Student(Branching(), student.about)
    with pytest.raises(UserError, match=r"resnet8 cannot be exported as pt2: .*Use safetensors or pth\.") as refused:
        export(odd, tmp_path / "student.pt2", "pt2")
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


def test_without_its_packages_onnx_says_what_to_install(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'kdas-sweeps\[onnx\]'"):
        export(student, tmp_path / "student.onnx", "onnx")
