"""The maps of models: those of the zoo by themselves, those of other models by the names of their layers."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdas import models, seeding
from kdas.errors import UserError
from kdas.models.interface import Staged
from kdas.models.layers import check_layers, teacher_batch_norms, with_maps
from kdas.models.tapped import tapped
from tests.places import GOLDEN

WHOLE = json.loads((GOLDEN / "distillers.json").read_text(encoding="utf-8"))["whole"]["resnet32x4->resnet8x4"]


def filled(name: str) -> Any:
    """The model with the weights that the golden file's formula makes, in float64 and eval mode."""
    model = models.create(name, 100).double().eval()
    state = model.state_dict()
    for k, key in enumerate(sorted(state)):
        tensor = state[key]
        wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape) + k)
        if key.endswith("num_batches_tracked"):
            continue
        if tensor.ndim > 1:
            state[key] = wave * math.sqrt(2 / (tensor.numel() / tensor.shape[0]))
        elif key.endswith(("running_mean", "bias")):
            state[key] = 0.1 * wave
        else:
            state[key] = 1 + 0.1 * wave
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(("who", "name"), [("student", "resnet8x4"), ("teacher", "resnet32x4")])
def test_maps_are_those_of_the_official_code(who: str, name: str) -> None:
    images = torch.sin(0.013 * torch.arange(4 * 3 * 32 * 32, dtype=torch.float64)).reshape(4, 3, 32, 32)
    with torch.no_grad():
        answer = filled(name).forward_with_maps(images)
    assert [list(each.shape[1:]) for each in answer.maps] == WHOLE["shapes"][f"{who}_feats"]
    for maps, key in ((answer.maps, "feats"), (answer.preact_maps, "preact")):
        means = [float(each.abs().mean()) for each in maps]
        assert means == pytest.approx(WHOLE["mean_absolute_values"][f"{who}_{key}"], rel=1e-9)


@pytest.mark.parametrize("name", models.MODELS.names())
def test_every_model_of_the_zoo_gives_maps_beside_the_same_logits_and_features(name: str) -> None:
    with seeding.global_draws(0, "model"):
        model = models.create(name, 10).eval()
        images = torch.randn(2, 3, 32, 32)
    assert isinstance(model, Staged)
    with torch.no_grad():
        logits, features = model.forward_with_features(images)
        answer = model.forward_with_maps(images)
    assert torch.equal(answer.logits, logits) and torch.equal(answer.features, features)
    assert len(answer.maps) == len(answer.preact_maps) >= 4
    shapes = [each.shape for each in answer.maps]
    assert [each.shape for each in answer.preact_maps] == shapes
    sides = [shape[2] for shape in shapes]
    assert sides == sorted(sides, reverse=True)
    norms = model.norms_before_activation()
    assert [len(norm.weight) for norm in norms] in ([], [shape[1] for shape in shapes[1:]])


@pytest.mark.parametrize("name", [name for name in models.MODELS.names() if not name.startswith(("MobileNet", "wrn"))])
def test_maps_after_the_activation_are_those_before_it_without_what_is_negative(name: str) -> None:
    with seeding.global_draws(0, "model"):
        model: Any = models.create(name, 10).eval()
        images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        answer = model.forward_with_maps(images)
    for before, after in zip(answer.preact_maps[1:], answer.maps[1:], strict=True):
        if name == "ShuffleV2":  # shuffled, and only half of it activated
            passed, half = before.chunk(2, dim=1)
            before = nn.functional.channel_shuffle(torch.cat([passed, half.relu()], dim=1), 2)
        assert torch.equal(before.relu(), after)


class Tokens(nn.Module):
    """Cuts an image into patches of 8x8 pixels, with a class token in front."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 8, stride=8)
        self.mixed = nn.Linear(6, 6)
        self.pair = nn.LSTM(6, 6, batch_first=True)
        self.fc = nn.Linear(6, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.cut(images).flatten(2).transpose(1, 2)
        mixed = self.mixed(torch.cat([patches.mean(dim=1, keepdim=True), patches], dim=1))
        logits: Tensor = self.fc(self.pair(mixed)[0].mean(dim=1))
        return logits


def test_layers_named_by_path_give_the_maps_of_other_models() -> None:
    model = models.create("torchvision/resnet18", 10).eval()
    layers = ["relu", "layer1", "layer2.1.conv1"]
    check_layers(model, layers, "student_layers")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        answer = with_maps(model, layers)(images)
    assert [list(each.shape[1:]) for each in answer.maps] == [[64, 32, 32], [64, 16, 16], [128, 8, 8]]
    assert torch.equal(answer.logits, model(images))
    assert not any(module._forward_hooks for module in model.modules()), "hooks stay"


def test_tokens_become_a_map_without_the_class_token() -> None:
    model = tapped(Tokens(10), 10)
    images = torch.randn(2, 3, 32, 32)
    (the_map,) = with_maps(model, ["mixed"])(images).maps
    assert the_map.shape == (2, 6, 4, 4)
    network: Any = model.network
    torch.testing.assert_close(the_map, network.mixed(network.cut(images).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))


def test_layer_that_gives_no_map_is_refused_in_one_line() -> None:
    model = tapped(Tokens(10), 10)
    with pytest.raises(UserError, match=r"^layer pair: expected a map .* got tuple. Name another layer.$"):
        with_maps(model, ["pair"])(torch.randn(2, 3, 32, 32))


def test_wrong_or_missing_layers_are_refused_in_one_line() -> None:
    model = models.create("torchvision/resnet18", 10)
    with pytest.raises(UserError, match=r"^student_layers: the model has no layer 'layer9'\..*layer"):
        check_layers(model, ["layer1", "layer9"], "student_layers")
    with pytest.raises(UserError, match=r"^teacher_layers: missing\. .*At its top it has conv1, bn1, relu"):
        check_layers(model, None, "teacher_layers")
    check_layers(models.create("resnet8", 10), None, "student_layers")


class Block(nn.Module):
    """A residual block whose shortcut has a batch norm too; its activation is a module, or a function."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.shortcut = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.activation = activation

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.shortcut(images)
        hidden += self.branch(images)
        return self.activation(hidden)  # type: ignore[no-any-return]


class Own(nn.Module):
    """An own network: a stem, a block and a stage without batch norm."""

    def __init__(self, activation: Any) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3), Block(activation)
        self.plain = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True))
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.plain(self.block(self.stem(images))).mean(dim=(2, 3)))  # type: ignore[no-any-return]


def drawn(model: Any) -> Any:
    """The model in eval mode, with drawn batch norms."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "layers", "norms"),
    [
        ("torchvision/resnet18", "relu layer1 layer2 layer4", "layer1.1.bn2 layer2.1.bn2 layer4.1.bn2"),
        ("torchvision/resnet50", "relu layer1 layer4", "layer1.2.bn3 layer4.2.bn3"),
        ("torchvision/vgg11_bn", "features.2 features.6 features.13", "features.5 features.12"),
        ("torchvision/mobilenet_v2", "features.0 features.3 features.18", "features.3.conv.3 features.18.1"),
        ("timm/resnet18", "act1 layer1 layer3", "layer1.1.bn2 layer3.1.bn2"),
        ("resnet8x4", "bn1 layer1 layer3", "layer1.0.bn2 layer3.0.bn2"),
        ("own", "stem block", "block.branch.3"),
    ],
)
def test_layers_named_by_path_give_maps_before_the_activation_and_their_batch_norms(
    name: str, layers: str, norms: str
) -> None:
    with seeding.global_draws(0, "model"):
        model = drawn(tapped(Own(nn.ReLU(inplace=True)), 10) if name == "own" else models.create(name, 10))
        images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        logits = model(images)
        answer = with_maps(model, layers.split())(images)
    assert torch.equal(answer.logits, logits)
    network = getattr(model, "network", model)
    for before, after, layer in zip(answer.preact_maps[1:], answer.maps[1:], layers.split()[1:], strict=True):
        assert before.min() < 0
        if layer != "features.3" or "mobilenet" not in name:  # whose blocks end without activation
            assert not torch.equal(before, after)
            assert after.min() >= 0 and torch.equal(before.clamp(0, 6 if "mobilenet" in name else None), after)
    frozen = [parameter.requires_grad_(False) for parameter in model.parameters()]
    found = teacher_batch_norms(model, layers.split(), 64)
    assert not any(parameter.requires_grad for parameter in frozen)
    for (weight, bias), path in zip(found, norms.split(), strict=True):
        assert torch.equal(weight, network.get_submodule(path).weight)
        assert torch.equal(bias, network.get_submodule(path).bias)


def test_maps_before_an_activation_in_place_are_trained() -> None:
    model = tapped(Own(nn.ReLU(inplace=True)), 10)
    network: Any = model.network
    before = with_maps(model, ["stem", "block"])(torch.randn(2, 3, 8, 8)).preact_maps[1]
    (gradient,) = torch.autograd.grad(before.sum(), network.block.branch[3].bias)
    assert torch.equal(gradient, torch.full((8,), 2.0 * 6 * 6))


@pytest.mark.parametrize(("activation", "layer"), [(nn.ReLU(), "plain"), (nn.functional.relu, "block")])
def test_layers_without_a_batch_norm_before_their_activation_are_refused(activation: Any, layer: str) -> None:
    model = tapped(Own(activation), 10).eval()
    with pytest.raises(UserError, match=rf"^teacher_layers: {layer}: a loss needs the batch norm before its last act"):
        teacher_batch_norms(model, ["stem", layer], 32)
