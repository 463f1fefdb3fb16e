"""Numbers that the official release returns for inputs made by a formula, and the shapes and outputs of its models."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas import models
from kdas.losses import dkd, kd
from kdas.penalty import penalty_weights
from kdas.samplers import knowledge_scores, select
from kdas.schedules import is_sampling_epoch, sampling_rate
from tests.places import GOLDEN, SHARED

TREE = GOLDEN
ORIGINALS = SHARED / "golden"


def golden(name: str) -> Any:
    return json.loads((TREE / name).read_text(encoding="utf-8"))


OFFICIAL, SCHEDULES = golden("official.json"), golden("schedule.json")
ZOO_KEYS, ZOO_OUTPUTS = golden("zoo_keys.json"), golden("zoo_outputs.json")
SHAPES = {"A": (16, 10, 0.1), "B": (64, 100, 0.5)}

in_both_cases = pytest.mark.parametrize("case", SHAPES)


def batch(case: str) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, teacher logits and targets of a golden case, in float64."""
    return made_batch(*SHAPES[case])


def made_batch(size: int, num_classes: int, salt: float) -> tuple[Tensor, Tensor, Tensor]:
    """Student logits, teacher logits and targets by the formula of the golden numbers, in float64."""
    i = torch.arange(size * num_classes, dtype=torch.float64).reshape(size, num_classes)
    student_logits = 4 * torch.sin(1.7 * i + salt)
    teacher_logits = 6 * torch.sin(2.3 * i * 1.01 + 2 * salt) + 3 * torch.cos(0.37 * i)
    return student_logits, teacher_logits, (torch.arange(size) * 7 + int(10 * salt)) % num_classes


def exactly(value: Any) -> Any:
    return pytest.approx(value, rel=1e-9, abs=1e-9)


@in_both_cases
def test_kd_is_the_official_loss_in_both_directions(case: str) -> None:
    student_logits, teacher_logits, _ = batch(case)
    reverse = kd(student_logits, teacher_logits, 4.0, "reverse")
    assert reverse.mean().item() == exactly(OFFICIAL[case]["kd_T4_mean"])
    assert reverse[:3].tolist() == exactly(OFFICIAL[case]["kd_T4_first3"])
    assert kd(student_logits, teacher_logits, 4.0).mean().item() == exactly(OFFICIAL[case]["kd_T4_forward"])


@in_both_cases
def test_kd_on_standardised_logits_is_the_official_loss(case: str) -> None:
    student_logits, teacher_logits, _ = batch(case)
    loss = kd(student_logits, teacher_logits, 2.0, "reverse", standardize=True)
    assert loss.mean().item() == exactly(OFFICIAL[case]["kd_std_T2_mean"])


@in_both_cases
@pytest.mark.parametrize(
    ("key", "alpha", "beta", "temperature", "standardize"),
    [("dkd_a1_b8_T4", 1.0, 8.0, 4.0, False), ("dkd_std_a9_b54_T2", 9.0, 54.0, 2.0, True)],
)
def test_dkd_is_the_official_loss(
    case: str, key: str, alpha: float, beta: float, temperature: float, standardize: bool
) -> None:
    loss = dkd(*batch(case), alpha, beta, temperature, standardize)
    assert loss.mean().item() == exactly(OFFICIAL[case][key])


@in_both_cases
@pytest.mark.parametrize(
    ("key", "threshold", "penalty_lambda", "penalty_factor", "temperature", "standardize"),
    [
        ("penalised_thr.2_lam1000", 0.2, 1000.0, 0.5, 4.0, False),
        ("penalised_thr.1_lam.05", 0.1, 0.05, 0.5, 4.0, False),
        ("penalised_std", 0.2, 0.1, 0.3, 2.0, True),
    ],
)
def test_penalised_loss_is_the_official_one(
    case: str,
    key: str,
    threshold: float,
    penalty_lambda: float,
    penalty_factor: float,
    temperature: float,
    standardize: bool,
) -> None:
    student_logits, teacher_logits, targets = batch(case)
    label_loss = 0.1 * functional.cross_entropy(student_logits, targets)
    weights = penalty_weights(teacher_logits, targets, threshold, penalty_lambda, penalty_factor)
    distillation = 9 * (weights * kd(student_logits, teacher_logits, temperature, "reverse", standardize)).mean()
    assert [label_loss.item(), distillation.item()] == exactly(OFFICIAL[case][key])


@in_both_cases
def test_scores_and_choice_are_the_official_ones(case: str) -> None:
    student_logits, teacher_logits, _ = batch(case)
    scores = knowledge_scores(student_logits, teacher_logits)
    assert scores[:3].tolist() == exactly(OFFICIAL[case]["score_first3"])
    assert select(scores, 8, 0.0).tolist() == OFFICIAL[case]["score_order_first8"]
    assert select(scores, 8, 0.05).tolist() == OFFICIAL[case]["select_keep8_excl.05"]


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: f"{case['epochs']}_epochs")
def test_sampling_rate_follows_the_official_schedule(case: dict[str, Any]) -> None:
    settings = [case[key] for key in ("epochs", "start_rate", "end_rate", "warmup_epochs")]
    for epoch, rate in case["rate"].items():
        assert sampling_rate(int(epoch), *settings) == pytest.approx(rate, rel=1e-12, abs=1e-12)
    total = math.fsum(sampling_rate(epoch, *settings) for epoch in range(1, case["epochs"] + 1))
    assert total == pytest.approx(case["rate_sum"], rel=1e-12)


@pytest.mark.parametrize("case", SCHEDULES, ids=lambda case: f"{case['epochs']}_epochs")
def test_sampling_epochs_are_the_official_ones(case: dict[str, Any]) -> None:
    settings = [case[key] for key in ("epochs", "sampling_period", "warmup_epochs")]
    chosen = [epoch for epoch in range(1, case["epochs"] + 1) if is_sampling_epoch(epoch, *settings)]
    assert len(chosen) == case["num_sampling_epochs"]
    assert chosen[:12] == case["sampling_epochs_first12"]
    assert chosen[-5:] == case["sampling_epochs_last5"]


@pytest.mark.parametrize("name", ZOO_KEYS)
def test_model_has_the_keys_and_shapes_of_the_shared_checkpoints(name: str) -> None:
    weights = models.create(name, 100).state_dict()
    assert {key: list(tensor.shape) for key, tensor in weights.items()} == ZOO_KEYS[name]


def fill_by_formula(model: nn.Module) -> None:
    """Set each weight by a formula of key number and position, so that outputs do not depend on any generator."""
    weights = model.state_dict()
    for number, key in enumerate(sorted(weights)):
        tensor = weights[key]
        if key.endswith("num_batches_tracked"):
            continue
        wave = torch.sin(0.37 * torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape) + number)
        if tensor.ndim > 1:
            tensor.copy_(wave * math.sqrt(2 / (tensor.numel() / tensor.shape[0])))
        elif key.endswith(("running_mean", "bias")):
            tensor.copy_(0.1 * wave)
        else:
            tensor.copy_(1 + 0.1 * wave)


@pytest.mark.parametrize("name", ZOO_OUTPUTS)
def test_model_computes_what_the_official_one_computes(name: str) -> None:
    model = models.create(name, 100).double().eval()
    fill_by_formula(model)
    images = torch.sin(0.013 * torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)).reshape(2, 3, 32, 32)
    with torch.no_grad():
        logits = model(images)
    expected = ZOO_OUTPUTS[name]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected["params"]
    assert logits[0, :4].tolist() == pytest.approx(expected["logits_first4"], rel=1e-6)
    assert logits.sum().item() == pytest.approx(expected["logits_sum"], rel=1e-6)
    assert logits[1].argmax().item() == expected["second_argmax"]


@pytest.mark.skipif(not ORIGINALS.is_dir(), reason="../shared/golden is not there: nothing to compare the copies with")
@pytest.mark.parametrize(
    "name", ["distillers.json", "official.json", "schedule.json", "zoo_keys.json", "zoo_outputs.json"]
)
def test_stored_numbers_are_those_of_the_originals(name: str) -> None:
    assert golden(name) == json.loads((ORIGINALS / name).read_text(encoding="utf-8"))
