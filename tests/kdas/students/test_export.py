"""Exported networks give what the student gives, for any number of images."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import kdas
from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.models import Model
from kdas.models.weights import load_weights
from kdas.students.export import FORMATS, export
from kdas.students.predict import predict
from kdas.students.student import Student
from kdas.training.trainer import Surroundings, Training
from tests.places import ROOT


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


# What another program does with an exported file, its metadata and images of uint8 [B, 3, H, W]. It knows nothing of
# this package. Of files of weights it has the network from elsewhere, with the field's names and other values.
_ELSEWHERE = """
import json, sys
import numpy as np

kind, file, network, images, answers = sys.argv[1:]
images = np.load(images)

def normalised(about):
    mean, std = (np.array(about[key], dtype=np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    return (images.astype(np.float32) / 255 - mean) / std

if kind == "onnx":
    import onnxruntime
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["kdas"])
    (logits,) = session.run(None, {"images": normalised(about)})
else:
    import torch
    if kind == "pt2":
        found = {"kdas": ""}
        model = torch.export.load(file, extra_files=found).module()
        about = json.loads(found["kdas"])
    else:
        model = torch.export.load(network).module()
        if kind == "pth":
            content = torch.load(file, weights_only=True)
            about, weights = json.loads(content["kdas"]), content["model"]
        else:
            from safetensors import safe_open
            with safe_open(file, framework="pt") as opened:
                about = json.loads(opened.metadata()["kdas"])
                weights = {name: opened.get_tensor(name) for name in opened.keys()}
        model.load_state_dict(weights)
    with torch.no_grad():
        logits = model(torch.from_numpy(normalised(about))).numpy()
assert not {"kdas", "sweeps"} & set(sys.modules)
np.save(answers, logits)
print(json.dumps(about))
"""


@pytest.mark.parametrize("kind", FORMATS)
def test_an_exported_file_alone_tells_what_another_program_needs(kind: str, student: Student, tmp_path: Path) -> None:
    raw = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    np.save(tmp_path / "images.npy", raw.numpy())
    export(student, tmp_path / f"student.{kind}", kind)
    other = Student(kdas.models.create(student.about.student, student.about.num_classes), student.about)
    export(other, tmp_path / "network.pt2", "pt2")
    files = [f"student.{kind}", "network.pt2", "images.npy", "answers.npy"]
    command = [sys.executable, "-I", "-c", _ELSEWHERE, kind, *(str(tmp_path / file) for file in files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = student(raw)
    answers = torch.from_numpy(np.load(tmp_path / "answers.npy"))
    assert torch.allclose(answers, expected, rtol=0, atol=1e-5)
    assert torch.equal(answers.argmax(dim=1), expected.argmax(dim=1))
    about, told = student.about, json.loads(done.stdout)
    assert (told["class_names"], told["image_size"]) == (student.class_names, about.image_size)
    assert (told["pixel_mean"], told["pixel_std"]) == (about.pixel_mean, about.pixel_std)
    assert told["mean"] == [value / 255 for value in about.pixel_mean]


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_a_file_of_weights_with_metadata_is_still_a_checkpoint(kind: str, student: Student, tmp_path: Path) -> None:
    export(student, tmp_path / f"student.{kind}", kind)
    model = kdas.models.create(student.about.student, student.about.num_classes)
    load_weights(model, tmp_path / f"student.{kind}", student.about.student)
    expected = student.model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_the_examples_of_the_docs_classify_an_image_as_the_student_does(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "students.md").read_text(encoding="utf-8")
    blocks = [each for each in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "about" in each]
    prepares, onnx, pt2, pth, safetensors = [each for each in blocks if "kdas.load_student" not in each]
    monkeypatch.chdir(tmp_path)
    for kind in FORMATS:
        export(student, Path(f"student.{kind}"), kind)
    pixels = np.random.default_rng(3).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    (best, probability) = predict(student, Path("photo.png"))[0]
    names: dict[str, Any] = {}
    exec(prepares, names)
    for block in (onnx, pt2, pth, safetensors):
        names["network"] = kdas.models.create(student.about.student, student.about.num_classes).eval()
        exec(block, names)
        if block is safetensors:
            with torch.no_grad():
                images = torch.from_numpy(names["prepared"]("photo.png", names["about"]))
                names["logits"] = names["network"](images)
            print(names["about"]["class_names"][names["logits"][0].argmax()])
        assert capsys.readouterr().out == f"{best}\n"
        found = torch.as_tensor(names["logits"])[0].softmax(dim=0).max().item()
        assert found == pytest.approx(probability, abs=1e-4)
