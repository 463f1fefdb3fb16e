"""Losses on maps and pooled features: the numbers of the official code, gradients, shapes and edges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdas import models
from kdas.losses import LOSSES, LossContext
from kdas.losses.crd import Contrastive
from kdas.losses.distillers import at, hcl, nst, ofd, pkt, rkd, sp
from kdas.losses.kdsvd import kdsvd
from tests.kdas.test_golden_numbers import fill_by_formula
from tests.places import GOLDEN

OFFICIAL = json.loads((GOLDEN / "distillers.json").read_text(encoding="utf-8"))
# (channels, size) of the maps, batch size, pooled widths, salt.
CASES: dict[str, tuple[list[tuple[int, int]], list[tuple[int, int]], int, tuple[int, int], float]] = {
    "A": ([(8, 8), (12, 4)], [(16, 8), (20, 4)], 6, (12, 20), 0.1),
    "B": ([(8, 8), (12, 8)], [(16, 4), (20, 2)], 5, (10, 10), 0.4),
}
PAIR = "resnet32x4->resnet8x4"

in_both_cases = pytest.mark.parametrize("case", CASES)


def made(shape: Sequence[int], frequency: float, salt: float) -> Tensor:
    i = torch.arange(math.prod(shape), dtype=torch.float64)
    return (2 * torch.sin(frequency * i + salt) + torch.cos(0.011 * i * (1 + salt))).reshape(*shape)


class Inputs:
    """What the golden file's formulas make of a case: maps and pooled features of student and teacher."""

    def __init__(self, case: str) -> None:
        student, teacher, size, widths, salt = CASES[case]
        self.student_maps = [made([size, c, h, h], 0.7, salt + j) for j, (c, h) in enumerate(student)]
        self.teacher_maps = [made([size, c, h, h], 1.3, salt + 0.5 + j) for j, (c, h) in enumerate(teacher)]
        # With the shapes of the teacher's, for losses that compare equal shapes.
        self.matched_maps = [made([size, c, h, h], 0.7, salt + j) for j, (c, h) in enumerate(teacher)]
        self.student_features = made([size, widths[0]], 0.9, salt)
        self.teacher_features = made([size, widths[1]], 1.1, salt + 0.3)
        self.margins = [torch.tensor(-0.4 - 0.1 * j) for j in range(len(teacher))]

    def student_side(self) -> list[Tensor]:
        return [*self.student_maps, *self.matched_maps, self.student_features]

    def teacher_side(self) -> list[Tensor]:
        return [*self.teacher_maps, self.teacher_features]

    def to(self, dtype: torch.dtype) -> Inputs:
        for key, value in vars(self).items():
            setattr(self, key, value.to(dtype) if isinstance(value, Tensor) else [each.to(dtype) for each in value])
        return self

    def first(self, rows: int) -> Inputs:
        for key, value in vars(self).items():
            if key != "margins":
                setattr(self, key, value[:rows] if isinstance(value, Tensor) else [each[:rows] for each in value])
        return self


FUNCTIONS: dict[str, Callable[[Inputs], Tensor]] = {
    "at_p2": lambda inputs: at(inputs.student_maps, inputs.teacher_maps),
    "nst": lambda inputs: nst(inputs.student_maps, inputs.teacher_maps),
    "pkt": lambda inputs: pkt(inputs.student_features, inputs.teacher_features),
    "sp_last": lambda inputs: sp(inputs.student_maps[-1], inputs.teacher_maps[-1]),
    "rkd_d25_a50": lambda inputs: rkd(inputs.student_features, inputs.teacher_features),
    "hcl_same_shapes": lambda inputs: hcl(inputs.matched_maps, inputs.teacher_maps),
    "ofd_feat_loss_same_shapes": lambda inputs: ofd(inputs.matched_maps, inputs.teacher_maps, inputs.margins),
}

of_each_function = pytest.mark.parametrize("name", FUNCTIONS)


@in_both_cases
@of_each_function
def test_function_and_its_gradients_are_those_of_the_official_code(name: str, case: str) -> None:
    inputs, official = Inputs(case), OFFICIAL["functions"][case][name]
    for tensor in inputs.student_side():
        tensor.requires_grad_()
    loss = FUNCTIONS[name](inputs)
    assert loss.shape == (CASES[case][2],)
    assert loss.mean().item() == pytest.approx(official["loss"], rel=1e-9)
    loss.mean().backward()
    norms = [float(tensor.grad.norm()) for tensor in inputs.student_side() if tensor.grad is not None]
    assert norms == pytest.approx(official["grad_l2"], rel=1e-9)


def test_kdsvd_is_that_of_the_official_code_in_float32() -> None:
    inputs = Inputs("A")
    loss = kdsvd(inputs.student_maps, inputs.teacher_maps, k=1)
    assert loss.shape == (6,) and loss.dtype == torch.float64
    assert loss.mean().item() == pytest.approx(OFFICIAL["functions"]["A"]["kdsvd_k1"]["loss"], rel=1e-4)


@of_each_function
def test_gradients_flow_to_the_student_alone(name: str) -> None:
    inputs = Inputs("A")
    for tensor in [*inputs.student_side(), *inputs.teacher_side()]:
        tensor.requires_grad_()
    FUNCTIONS[name](inputs).sum().backward()
    assert any(tensor.grad is not None for tensor in inputs.student_side())
    assert all(tensor.grad is None for tensor in inputs.teacher_side())


@in_both_cases
@of_each_function
def test_float32_is_float64_rounded(name: str, case: str) -> None:
    short, exact = FUNCTIONS[name](Inputs(case).to(torch.float32)), FUNCTIONS[name](Inputs(case))
    assert short.dtype == torch.float32
    torch.testing.assert_close(short.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["at_p2", "nst", "hcl_same_shapes", "ofd_feat_loss_same_shapes"])
def test_loss_of_a_sample_is_its_own(name: str) -> None:
    torch.testing.assert_close(FUNCTIONS[name](Inputs("A"))[:2], FUNCTIONS[name](Inputs("A").first(2)))


@pytest.mark.parametrize("name", ["pkt", "sp_last", "rkd_d25_a50"])
def test_rows_of_a_relational_loss_go_with_their_samples(name: str) -> None:
    inputs, shuffled, order = Inputs("A"), Inputs("A"), torch.tensor([3, 0, 5, 1, 4, 2])
    for key in ("student_features", "teacher_features"):
        setattr(shuffled, key, getattr(inputs, key)[order])
    for key in ("student_maps", "teacher_maps"):
        setattr(shuffled, key, [each[order] for each in getattr(inputs, key)])
    torch.testing.assert_close(FUNCTIONS[name](shuffled), FUNCTIONS[name](inputs)[order])


@of_each_function
@pytest.mark.parametrize("rows", [1, 2])
def test_smallest_batches_have_a_finite_loss_and_gradient(name: str, rows: int) -> None:
    inputs = Inputs("A").to(torch.float32).first(rows)
    for tensor in inputs.student_side():
        tensor.requires_grad_()
    loss = FUNCTIONS[name](inputs)
    loss.sum().backward()
    assert loss.shape == (rows,) and torch.isfinite(loss).all()
    gradients = [tensor.grad for tensor in inputs.student_side() if tensor.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


@of_each_function
def test_a_dead_student_has_a_finite_loss_and_gradient(name: str) -> None:
    inputs = Inputs("A").to(torch.float32)
    for tensor in inputs.student_side():
        tensor.zero_().requires_grad_()
    loss = FUNCTIONS[name](inputs)
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    gradients = [tensor.grad for tensor in inputs.student_side() if tensor.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


def fill_layers(module: nn.Module) -> None:
    """The golden file's weights of convolutions and linear layers of a method's own."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            for tensor, scale in ((layer.weight, math.sqrt(2 / layer.weight[0].numel())), (layer.bias, 0.1)):
                if tensor is not None:
                    wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64)).reshape(tensor.shape)
                    tensor.data.copy_(scale * wave)


def crd_of_the_golden_case() -> Contrastive:
    context = LossContext(12, 20, class_means=lambda: torch.zeros(1), num_samples=40, labels=torch.arange(40) % 10)
    crd = Contrastive(context, num_negatives=8, width=16).double()
    fill_layers(crd)
    i = torch.arange(40 * 16, dtype=torch.float64).reshape(40, 16)
    crd.student_memory.copy_(nn.functional.normalize(torch.sin(0.53 * i)))
    crd.teacher_memory.copy_(nn.functional.normalize(torch.cos(0.47 * i)))
    return crd


def test_crd_is_that_of_the_official_code_over_two_steps() -> None:
    crd, official, losses = crd_of_the_golden_case(), OFFICIAL["crd"]["A"], []
    for k in range(2):
        student, teacher = made([4, 12], 0.9, 0.1 + k), made([4, 20], 1.1, 0.1 + k + 0.3)
        indices = (5 * torch.arange(4) + 3 * k) % 40
        compared = (11 * torch.arange(4 * 9).reshape(4, 9) + 7 * k) % 40
        loss = crd.contrast(student, teacher, indices, compared[:, 1:])
        assert loss.shape == (4,)
        losses.append(loss.mean().item())
    assert losses == pytest.approx(official["losses_of_steps"], rel=1e-9)
    assert crd.normalizers.tolist() == pytest.approx(official["Z"], rel=1e-9)
    assert crd.student_memory[0, :3].tolist() == pytest.approx(official["memory_student_row0_first3"], rel=1e-9)


@pytest.fixture(scope="module")
def whole() -> tuple[LossContext, dict[str, Any]]:
    """Context and needs of the golden pair for its four images."""
    images = torch.sin(0.013 * torch.arange(4 * 3 * 32 * 32, dtype=torch.float64)).reshape(4, 3, 32, 32)
    needed: dict[str, Any] = {"epoch": 20}
    context: dict[str, Any] = {"class_means": lambda: torch.zeros(1)}
    for who, name in zip(("teacher", "student"), PAIR.split("->"), strict=True):
        model: Any = models.create(name, 100).double().eval()
        fill_by_formula(model)
        with torch.no_grad():
            answer = model.forward_with_maps(images)
        for key in ("maps", "preact_maps"):
            needed[f"{who}_{key}"] = getattr(answer, key)
            context[f"{who}_{key}"] = tuple(tuple(each.shape[1:]) for each in getattr(answer, key))
        needed[f"{who}_features"], context[f"{who}_width"] = answer.features, answer.features.shape[1]
        if who == "teacher":
            norms = model.norms_before_activation()
            context["teacher_batch_norms"] = tuple((norm.weight.detach(), norm.bias.detach()) for norm in norms)
    return LossContext(**context), needed


@pytest.mark.parametrize("name", ["at", "nst", "sp", "rkd", "vid", "fitnet", "ofd", "reviewkd"])
def test_whole_distiller_is_that_of_the_official_code(name: str, whole: tuple[LossContext, dict[str, Any]]) -> None:
    context, known = whole
    loss: Any = LOSSES.build(LOSSES.checked(name), context)
    official = OFFICIAL["whole"][PAIR][name]
    if isinstance(loss, nn.Module):
        loss.double().eval()
        fill_layers(loss)
        layers = [layer for layer in loss.modules() if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
        count = sum(parameter.numel() for layer in layers for parameter in layer.parameters())
        assert count == official["extra_parameters"]
    needed = {need: known[need] for need in LOSSES[name].needs if need in known}
    value = LOSSES[name].usual["kd_weight"] * loss(None, None, None, **needed).mean()
    assert value.item() == pytest.approx(official["loss_kd"], rel=1e-6)
