"""Exported weights load strictly into other people's networks of the same names, and give the same logits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision.models
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

import kdas
from kdas import models, seeding
from kdas.clock import Calibration
from kdas.students.about import About
from kdas.students.export import export
from kdas.students.student import Student
from kdas.training.trainer import Surroundings, Training
from tests.kdas.conftest import TrialOf


class PeerBlock(nn.Module):
    """The two-layer block of He et al. (2016), with the names that CIFAR code bases use."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride > 1 or before != width:
            self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        kept = images if self.downsample is None else self.downsample(images)
        return functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(images))))) + kept)


class PeerResNet8(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(PeerBlock(16, 16, 1))
        self.layer2 = nn.Sequential(PeerBlock(16, 32, 2))
        self.layer3 = nn.Sequential(PeerBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.layer3(self.layer2(self.layer1(functional.relu(self.bn1(self.conv1(images))))))
        logits: Tensor = self.fc(maps.mean((2, 3)))
        return logits


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, trial_of: TrialOf, calibration: Calibration) -> Student:
    folder = tmp_path_factory.mktemp("kept") / "student"
    training = Training(trial_of(epochs=1), Surroundings(calibration, keeps_student=True))
    list(training.rows())
    training.write_student(folder)
    return kdas.load_student(folder)


def exported(student: Student, path: Path) -> dict[str, Tensor]:
    export(student, path, path.suffix[1:])
    if path.suffix == ".safetensors":
        return load_file(path)
    # As any program reads it that only trusts tensors.
    content: dict[str, dict[str, Tensor]] = torch.load(path, weights_only=True)
    return content["model"]


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_cifar_network(student: Student, tmp_path: Path, suffix: str) -> None:
    peer = PeerResNet8(10)
    peer.load_state_dict(exported(student, tmp_path / f"s.{suffix}"), strict=True)
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(peer.eval()(images), student(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_torchvisions_own_network(student: Student, tmp_path: Path, suffix: str) -> None:
    with seeding.global_draws(1, "a network of the tests"):
        network = models.create("torchvision/resnet18", 10)
    about: About = replace(student.about, student="torchvision/resnet18")
    peer = torchvision.models.resnet18(num_classes=10)
    peer.load_state_dict(exported(Student(network, about).eval(), tmp_path / f"s.{suffix}"), strict=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.allclose(peer.eval()(images), network.eval()(images), rtol=0, atol=1e-5)
