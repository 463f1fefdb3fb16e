"""Properties of the distillation loss, of standardisation and of the penalty."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdas.losses import kd
from kdas.losses.divergence import standardized
from kdas.penalty import label_divergence, penalty_weights
from kdas.schedules import penalty_lambda

quickly = settings(max_examples=60)
temperatures = st.floats(0.5, 8)
thresholds = st.floats(0.01, 0.49)


@st.composite
def logits(draw: st.DrawFn, count: int = 1) -> list[Tensor]:
    """`count` float64 tensors of the same shape [B, C]."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(2, 10))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    spread = draw(st.floats(0.1, 10))
    return [spread * torch.randn(rows, columns, generator=generator, dtype=torch.float64) for _ in range(count)]


def targets_for(teacher_logits: Tensor) -> Tensor:
    rows, columns = teacher_logits.shape
    return torch.arange(rows) * 3 % columns


@quickly
@given(logits(2), temperatures, st.sampled_from(["forward", "reverse"]), st.booleans())
def test_kd_is_never_negative(pair: list[Tensor], temperature: float, direction: str, standardize: bool) -> None:
    assert (kd(*pair, temperature, direction, standardize) >= -1e-12).all()


@quickly
@given(logits(2), temperatures)
def test_kd_is_zero_for_equal_logits_and_positive_for_others(pair: list[Tensor], temperature: float) -> None:
    student_logits, teacher_logits = pair
    same = kd(teacher_logits, teacher_logits, temperature)
    assert torch.equal(same, torch.zeros_like(same))
    assert (kd(student_logits, teacher_logits, temperature) > 0).all()


@quickly
@given(logits(2), temperatures)
def test_reverse_kd_is_forward_kd_with_the_roles_exchanged(pair: list[Tensor], temperature: float) -> None:
    student_logits, teacher_logits = pair
    reverse = kd(student_logits, teacher_logits, temperature, "reverse")
    assert torch.equal(reverse, kd(teacher_logits, student_logits, temperature, "forward"))


@quickly
@given(logits(2), temperatures, st.floats(-50, 50))
def test_kd_does_not_see_a_shift_of_all_logits(pair: list[Tensor], temperature: float, shift: float) -> None:
    student_logits, teacher_logits = pair
    shifted = kd(student_logits + shift, teacher_logits - shift, temperature)
    torch.testing.assert_close(shifted, kd(student_logits, teacher_logits, temperature), rtol=1e-8, atol=1e-9)


@quickly
@given(logits(2), st.floats(0.5, 20), st.floats(-20, 20))
def test_standardised_kd_does_not_see_scale_or_shift(pair: list[Tensor], scale: float, shift: float) -> None:
    student_logits, teacher_logits = pair
    # The eps of 1e-7 that is added to the deviation is not scaled with it.
    assume(bool((student_logits.std(dim=1) > 0.1).all()))
    plain = kd(student_logits, teacher_logits, 2.0, standardize=True)
    changed = kd(scale * student_logits + shift, teacher_logits, 2.0, standardize=True)
    torch.testing.assert_close(changed, plain, rtol=1e-4, atol=1e-5)


@quickly
@given(logits())
def test_standardised_logits_have_mean_zero_and_sample_deviation_one(given_logits: list[Tensor]) -> None:
    rows = standardized(given_logits[0] * 10)
    torch.testing.assert_close(rows.mean(dim=1), torch.zeros(len(rows), dtype=rows.dtype), rtol=0, atol=1e-9)
    torch.testing.assert_close(rows.std(dim=1), torch.ones(len(rows), dtype=rows.dtype), rtol=1e-4, atol=1e-4)


def test_standardised_kd_of_constant_logits_is_finite() -> None:
    loss = kd(torch.zeros(3, 5), torch.ones(3, 5), 2.0, standardize=True)
    assert torch.equal(loss, torch.zeros(3))


@quickly
@given(logits(), thresholds, st.floats(0, 2000), st.floats(0, 1))
def test_penalty_weights_stay_between_the_factor_and_one(
    given_logits: list[Tensor], threshold: float, strength: float, factor: float
) -> None:
    teacher_logits = given_logits[0]
    weights = penalty_weights(teacher_logits, targets_for(teacher_logits), threshold, strength, factor)
    assert weights.shape == (len(teacher_logits),) and weights.dtype == teacher_logits.dtype
    assert ((weights >= factor) & (weights <= 1)).all()


@quickly
@given(logits(), thresholds)
def test_penalty_leaves_samples_between_the_quantiles_alone(given_logits: list[Tensor], threshold: float) -> None:
    teacher_logits = given_logits[0]
    targets = targets_for(teacher_logits)
    divergence = label_divergence(teacher_logits, targets)
    low, high = torch.quantile(divergence, threshold), torch.quantile(divergence, 1 - threshold)
    weights = penalty_weights(teacher_logits, targets, threshold, 1000.0, 0.5)
    inside = (divergence >= low) & (divergence <= high)
    assert (weights[inside] == 1).all()
    clearly_outside = (divergence < low - 1e-3) | (divergence > high + 1e-3)
    assert (weights[clearly_outside] == 0.5).all()


@quickly
@given(logits(), thresholds, st.floats(0, 1))
def test_penalty_of_strength_zero_is_none(given_logits: list[Tensor], threshold: float, factor: float) -> None:
    teacher_logits = given_logits[0]
    weights = penalty_weights(teacher_logits, targets_for(teacher_logits), threshold, 0.0, factor)
    assert torch.equal(weights, torch.ones_like(weights))


def test_penalty_falls_linearly_with_the_distance_to_the_quantile() -> None:
    # Eleven divergences at (nearly) equal distances: the quantiles 0.2 and 0.8 are the third and the ninth.
    wanted = torch.linspace(1, 3, 11, dtype=torch.float64)
    probability = torch.exp(-wanted)
    teacher_logits = torch.stack([probability, 1 - probability], dim=1).log()
    weights = penalty_weights(teacher_logits, torch.zeros(11, dtype=torch.int64), 0.2, 1.0, 0.7)
    expected = torch.tensor([0.7, 0.8, *[1.0] * 7, 0.8, 0.7], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-4)


@quickly
@given(logits())
def test_label_divergence_is_nearly_the_cross_entropy(given_logits: list[Tensor]) -> None:
    teacher_logits = given_logits[0]
    targets = targets_for(teacher_logits)
    cross_entropy = torch.nn.functional.cross_entropy(teacher_logits, targets, reduction="none")
    torch.testing.assert_close(label_divergence(teacher_logits, targets), cross_entropy, rtol=0, atol=1e-3)


@pytest.mark.parametrize("threshold", [0.0, 0.5, -0.1, 0.7, math.nan])
def test_threshold_that_is_not_an_inner_quantile_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=rf"^threshold: expected a value in \(0, 0\.5\), got {threshold}\."):
        penalty_weights(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), threshold, 1.0, 0.5)


def test_penalty_strength_ramps_linearly_over_its_warm_up() -> None:
    assert [penalty_lambda(epoch, 8.0, 4) for epoch in (1, 2, 4, 5, 100)] == [2, 4, 8, 8, 8]
    assert penalty_lambda(1, 8.0, 0) == 8
