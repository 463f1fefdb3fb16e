"""Models of the zoo, beyond the contract of a part: initial weights, and images that are too small."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from kdas import models, seeding
from kdas.errors import UserError
from kdas.models import check_image_size
from kdas.models.interface import Model


def drawn(name: str) -> Model:
    with seeding.global_draws(1, "test"):
        return models.create(name, 100)


@pytest.mark.parametrize("name", ["resnet20", "ResNet18", "wrn_16_2", "vgg8", "MobileNetV2"])
def test_convolutions_are_drawn_by_their_fan_out(name: str) -> None:
    for module in drawn(name).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            # The standard deviation of n normal draws has a relative error of about 1 / sqrt(2n); allow five of those.
            slack = 5 / math.sqrt(2 * module.weight.numel())
            assert module.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=slack)
            assert module.bias is None or not module.bias.any()


@pytest.mark.parametrize("name", ["vgg8", "MobileNetV2"])
def test_classifier_begins_close_to_uniform_where_the_published_one_does(name: str) -> None:
    linear = [module for module in drawn(name).modules() if isinstance(module, nn.Linear)][-1]
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not linear.bias.any()


@pytest.mark.parametrize("name", ["ShuffleV1", "ShuffleV2"])
def test_shufflenets_keep_the_draw_of_torch_as_published(name: str) -> None:
    weight = drawn(name).get_parameter("layer3.1.conv1.weight")
    bound = 1 / math.sqrt(weight[0].numel())
    assert 0.99 * bound < weight.abs().max().item() <= bound


def test_vgg_pools_a_fourth_time_for_images_of_64_pixels_only() -> None:
    model = drawn("vgg8").eval()
    sizes: dict[int, int] = {}
    for image_size in (32, 48, 64, 96):
        with torch.no_grad():
            handle = model.get_submodule("block4").register_forward_pre_hook(
                lambda module, inputs, image_size=image_size: sizes.update({image_size: inputs[0].shape[2]})
            )
            model(torch.zeros(1, 3, image_size, image_size))
            handle.remove()
    assert sizes == {32: 4, 48: 6, 64: 4, 96: 12}


@pytest.mark.parametrize(
    ("name", "image_size"), [("vgg8", 4), ("torchvision/alexnet", 32), ("torchvision/vit_b_32", 32)]
)
def test_model_that_cannot_take_an_image_size_is_refused_in_one_line(name: str, image_size: int) -> None:
    size = f"{image_size}x{image_size}"
    with pytest.raises(
        UserError, match=rf"^model {name} cannot take images of {size} pixels: .*\w\. Choose another model"
    ):
        check_image_size(name, 10, image_size)


class Blank(Model):
    """Returns the logits that it was given."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward_with_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits, images.flatten(1)


@pytest.mark.parametrize(
    ("logits", "problem"),
    [
        (
            torch.full((2, 10), math.nan),
            r"cannot take images of 8x8 pixels: its logits are not finite\. Choose",
        ),
        (
            torch.zeros(2, 11),
            r"has other classes: expected 10, as the dataset has, got 11 logits for an image\. Give its last layer"
            r" num_classes outputs\.$",
        ),
        (torch.zeros(2, 10, 1), r"returns \[2, 10, 1\] for two images, not logits \[2, 10\]\. Return a row of logits"),
        ((torch.zeros(2, 10),), r"returns tuple for two images, not logits \[2, 10\]\."),
        (
            torch.linspace(0, 1, 20).reshape(2, 10).softmax(dim=1),
            r"returns probabilities: no output is negative, and each row sums to 1\. Remove the softmax at its end\.$",
        ),
    ],
    ids=["nan", "classes", "shape", "tuple", "probabilities"],
)
def test_model_that_misbehaves_silently_is_refused(logits: Any, problem: str) -> None:
    with pytest.raises(UserError, match=rf"^model Blank {problem}"):
        check_image_size(Blank(logits), 10, 8)


@pytest.mark.parametrize("logits", [torch.zeros(2, 10), torch.ones(2, 10), torch.rand(2, 10).log_softmax(dim=1)])
def test_logits_that_only_resemble_probabilities_are_accepted(logits: torch.Tensor) -> None:
    check_image_size(Blank(logits), 10, 8)


def test_check_of_an_image_size_leaves_model_and_generator_alone() -> None:
    model = models.create("resnet8", 10).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.random.get_rng_state()
    check_image_size(model, 10, 8)
    check_image_size("resnet8", 10, 8)
    assert model.training and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
