"""Multi-level logit distillation: the official code's numbers, and the sum that it meant."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdas.losses import LOSSES, kd
from kdas.losses.mlkd import batch_correlation, class_correlation, levels, low_confidence
from kdas.recipe.config import TrialConfig
from tests.kdas.test_golden_numbers import batch, exactly, golden, made_batch

OFFICIAL = golden("distillers.json")["mlkd"]["A"]
KD_WEIGHT = 9.0


def views() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Student and teacher logits of the weak view, then of the strong one."""
    return (*batch("A")[:2], *made_batch(16, 10, 0.31)[:2])


@pytest.mark.parametrize("temperature", [2, 4])
def test_correlations_are_the_official_ones(temperature: int) -> None:
    student_logits, teacher_logits, _ = batch("A")
    for loss, name in ((class_correlation, "class"), (batch_correlation, "batch")):
        losses = loss(student_logits, teacher_logits, float(temperature))
        assert losses.shape == (16,)
        assert losses.mean().item() == exactly(OFFICIAL[f"{name}_correlation_T{temperature}"])


@pytest.mark.parametrize("standardize", [False, True])
def test_released_sum_has_the_official_terms(standardize: bool) -> None:
    expected = OFFICIAL["released_terms_standardised" if standardize else "released_terms"]
    terms = levels(*views(), standardize=standardize, released_sum=True)
    for term, key in zip(terms, ("loss_kd", "loss_bc", "loss_cc"), strict=True):
        assert term.shape == (16,)
        assert KD_WEIGHT * term.mean().item() == exactly(expected[key])


@pytest.mark.parametrize("standardize", [False, True])
def test_loss_under_its_published_weights_is_the_official_total(standardize: bool) -> None:
    expected = OFFICIAL["released_terms_standardised" if standardize else "released_terms"]
    loss: Any = LOSSES.build(LOSSES.checked({"name": "mlkd", "standardize": standardize, "released_sum": True}))
    student_logits, teacher_logits, *strong = views()
    targets = batch("A")[2]
    keywords = dict(zip(("student_strong_logits", "teacher_strong_logits"), strong, strict=True))
    values = loss(student_logits, teacher_logits, targets, **keywords)
    weights = LOSSES["mlkd"].usual
    label_loss = weights["ce_weight"] * functional.cross_entropy(student_logits, targets)
    assert (label_loss + weights["kd_weight"] * values.mean()).item() == exactly(sum(expected.values()))


def test_official_preset_takes_the_released_sum() -> None:
    content = {"dataset": "digits", "teacher": {"model": "resnet8"}, "student": "resnet8", "loss": "mlkd"}
    for preset, is_released in (("default", False), ("official", True), ("paper", False)):
        loss = TrialConfig.model_validate({**content, "preset": preset}).loss
        assert isinstance(loss, dict) and loss["released_sum"] is is_released


def test_low_confidence_half_is_what_is_at_most_the_median() -> None:
    assert low_confidence(torch.tensor([0.9, 0.2, 0.5, 0.4])).tolist() == [0, 1, 0, 1]
    assert low_confidence(torch.tensor([0.9, 0.2, 0.5])).tolist() == [0, 1, 1]
    assert low_confidence(torch.tensor([0.5, 0.5, 0.7, 0.5])).tolist() == [1, 1, 0, 1]


def test_confident_samples_learn_from_the_strong_view_alone() -> None:
    weak_student, weak_teacher, strong_student, strong_teacher = views()
    of_samples, of_batch, _ = levels(weak_student, weak_teacher, strong_student, strong_teacher)
    confidence = weak_teacher.softmax(dim=1).amax(dim=1)
    is_confident = confidence > confidence.quantile(0.5)
    strong = torch.stack([kd(strong_student, strong_teacher, t) for t in (2.0, 3.0, 4.0, 5.0, 6.0)]).sum(dim=0)
    weak = torch.stack([kd(weak_student, weak_teacher, t) for t in (2.0, 3.0, 4.0, 5.0, 6.0)]).sum(dim=0)
    torch.testing.assert_close(of_samples, torch.where(is_confident, strong, strong + weak))
    assert is_confident.sum() == 8
    assert (of_batch[is_confident] == 0).all() and (of_batch[~is_confident] > 0).all()


def test_class_term_of_the_weak_view_counts_the_classes_with_less_probability() -> None:
    weak_student, weak_teacher, strong_student, strong_teacher = views()
    of_classes = levels(weak_student, weak_teacher, strong_student, strong_teacher)[2]
    total = torch.zeros((), dtype=torch.float64)
    mass = weak_teacher.softmax(dim=1).sum(dim=0)
    for t in (2.0, 3.0, 4.0, 5.0, 6.0):
        for student, teacher, is_weak in ((weak_student, weak_teacher, True), (strong_student, strong_teacher, False)):
            p, q = (student / t).softmax(dim=1), (teacher / t).softmax(dim=1)
            for c in range(10):
                if not is_weak or mass[c] <= mass.quantile(0.5):
                    total += sum((p[:, c] @ p[:, d] - q[:, c] @ q[:, d]) ** 2 for d in range(10)) / 10
    assert of_classes.tolist() == pytest.approx([total.item()] * 16, rel=1e-9)


def test_student_that_agrees_with_its_teacher_on_both_views_has_no_loss() -> None:
    _, weak, _, strong = views()
    for term in levels(weak, weak, strong, strong):
        torch.testing.assert_close(term, torch.zeros(16, dtype=torch.float64))
