"""Distillation losses on logits: the official code's numbers, and what each of them promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses import LOSSES, Distillation, LossContext, kd
from kdas.losses.ctkd import CurriculumTemperature, reversal_strength
from kdas.losses.distillers import dhkd, dist, entropy_adaptive_weights, ofa
from kdas.losses.ofa import StageBranches
from kdas.teacher.bank import bank_precision
from kdas.training.answering import check_maps
from kdas.training.trial import Inputs, Trial
from tests.kdas.test_golden_numbers import batch, exactly, golden, in_both_cases

TrialOf = Callable[..., Trial]
Finished = Callable[..., Any]
PerSample = Callable[[Tensor, Tensor, Tensor], Tensor]

LOGITS = golden("distillers.json")["logits"]


def random_logits(seed: int, rows: int = 8, columns: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


TARGETS = torch.arange(8) % 6


@in_both_cases
@pytest.mark.parametrize(
    ("key", "loss"),
    [
        ("dist_beta1_gamma1_T1", lambda s, t, y: dist(s, t, 1.0, 1.0, 1.0)),
        ("dist_beta2_gamma2_T4", lambda s, t, y: dist(s, t, 2.0, 2.0, 4.0)),
        ("dist_inter_T1", lambda s, t, y: dist(s, t, 1.0, 0.0, 1.0)),
        ("ofa_logits_gamma1_T1", lambda s, t, y: ofa(s, t, y, 1.0)),
        ("ofa_logits_gamma1.5_T1", lambda s, t, y: ofa(s, t, y, 1.5)),
        ("dhkd_binary_T2", lambda s, t, y: dhkd(s, t, 2.0)),
        ("ea_kd_T4_t3_ub100", lambda s, t, y: entropy_adaptive_weights(s, t, max_entropy=100.0) * kd(s, t, 4.0)),
        ("ea_kd_T4_t3_ublogC", lambda s, t, y: entropy_adaptive_weights(s, t) * kd(s, t, 4.0)),
    ],
)
def test_mean_over_the_batch_is_the_official_loss(case: str, key: str, loss: PerSample) -> None:
    losses = loss(*batch(case))
    assert losses.shape == (len(batch(case)[2]),)
    assert losses.mean().item() == exactly(LOGITS[case][key])


@in_both_cases
def test_entropy_adaptive_weights_are_the_official_ones(case: str) -> None:
    student_logits, teacher_logits, _ = batch(case)
    weights = entropy_adaptive_weights(student_logits, teacher_logits, 3.0, 100.0)
    assert weights[:3].tolist() == exactly(LOGITS[case]["ea_weights_first3"])


@pytest.mark.parametrize("direction", ["forward", "reverse", "js", "tvd"])
def test_every_divergence_is_zero_for_equal_predictions_alone(direction: Any) -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    assert (kd(student_logits, teacher_logits, 4.0, direction) > 0).all()
    same = kd(student_logits, student_logits + 3.0, 4.0, direction)
    torch.testing.assert_close(same, torch.zeros_like(same))


def test_symmetric_divergences_are_those_of_their_definitions() -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    p, q = (student_logits / 2).softmax(dim=1), (teacher_logits / 2).softmax(dim=1)
    mixture = (p + q) / 2
    halves = [functional.kl_div(mixture.log(), each, reduction="none").sum(dim=1) / 2 for each in (p, q)]
    torch.testing.assert_close(kd(student_logits, teacher_logits, 2.0, "js"), 4 * (halves[0] + halves[1]))
    # The largest difference in probability that any set of classes has.
    largest = torch.where(p > q, p - q, 0.0).sum(dim=1)
    torch.testing.assert_close(kd(student_logits, teacher_logits, 2.0, "tvd"), 4 * largest)


@pytest.mark.parametrize(("direction", "bound"), [("js", math.log(2)), ("tvd", 1.0)])
def test_bounded_divergences_reach_their_bounds_with_finite_gradients(direction: Any, bound: float) -> None:
    student_logits = torch.tensor([[200.0, -200.0, 0.0]], requires_grad=True)
    loss = kd(student_logits, torch.tensor([[-200.0, 200.0, 0.0]]), 1.0, direction)
    loss.sum().backward()
    assert loss.item() == pytest.approx(bound, rel=1e-6)
    assert student_logits.grad is not None and student_logits.grad.isfinite().all()


def test_correlation_loss_ignores_scale_and_offset_of_a_sample_s_probabilities() -> None:
    probabilities = random_logits(1).softmax(dim=1)
    flatter = 0.3 * probabilities + 0.7 / 6
    losses = dist(flatter.log(), probabilities.log(), 1.0, 0.0, 1.0)
    # The official code's 1e-8 beside the norms keeps it from being exactly 0.
    assert losses.abs().max() < 1e-5


def test_all_samples_have_the_same_share_of_the_term_over_samples() -> None:
    losses = dist(random_logits(1), random_logits(2), 0.0, 1.0, 4.0)
    assert losses.unique().numel() == 1
    student, teacher = ((random_logits(seed) / 4).softmax(dim=1) for seed in (1, 2))
    correlations = [torch.corrcoef(torch.stack([student[:, c], teacher[:, c]]))[0, 1].item() for c in range(6)]
    assert losses[0].item() == pytest.approx(16 * (1 - sum(correlations) / 6), rel=1e-5)


def test_enhanced_target_without_enhancement_is_the_teachers_prediction() -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    expected = functional.cross_entropy(student_logits, teacher_logits.softmax(dim=1), reduction="none")
    torch.testing.assert_close(ofa(student_logits, teacher_logits, TARGETS, 1.0), expected)


def test_enhancement_shifts_weight_to_the_label() -> None:
    probabilities = torch.tensor([[0.8, 0.2]], dtype=torch.float64)
    student_logits = torch.zeros(1, 2, dtype=torch.float64)
    loss = ofa(student_logits, probabilities.log(), torch.tensor([0]), 2.0)
    # Weights (0.8 + 1)^2 - 1 = 2.24 and 0.2^2 = 0.04, each times log 2.
    assert loss.item() == pytest.approx(2.28 * math.log(2), rel=1e-12)


def test_every_stage_has_a_branch_that_ends_at_one_size() -> None:
    shapes = ((16, 32, 32), (16, 32, 32), (32, 16, 16), (64, 8, 8))
    branches = StageBranches(LossContext(64, 96, lambda: torch.zeros(0), num_classes=10, student_maps=shapes)).branches
    bodies: list[Any] = [branch[:-3] for branch in branches]  # type: ignore[index]
    sizes = [body(torch.zeros(2, *shape)).shape for body, shape in zip(bodies, shapes[1:], strict=True)]
    assert sizes == [(2, 96, 8, 8)] * 3
    # The official code's depth: a pair of separable convolutions for each later stage, or else one 1x1 convolution.
    assert [sum(isinstance(each, nn.Conv2d) for each in branch.modules()) for branch in branches] == [8, 4, 1]


def test_stage_branches_add_their_losses_to_that_of_the_logits(trial_of: TrialOf) -> None:
    distiller = trial_of(loss={"name": "ofa_stages", "gamma": 1.5}).distiller()
    module: Any = distiller.distillation.term0
    student_logits, teacher_logits = (random_logits(seed, columns=10).float() for seed in (1, 2))
    student_maps = [torch.rand(8, *shape) for shape in ((16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2))]
    losses = module(student_logits, teacher_logits, TARGETS, student_maps=student_maps)
    expected = ofa(student_logits, teacher_logits, TARGETS, 1.5)
    for branch, own in zip(module.branches, student_maps[1:], strict=True):
        expected = expected + ofa(branch(own), teacher_logits, TARGETS, 1.5)
    torch.testing.assert_close(losses, expected)


def test_stage_branches_take_any_teacher_and_its_bank(config_of: Callable[..., Any], small_inputs: Inputs) -> None:
    config = config_of(loss="ofa_stages", teacher={"model": "torchvision/mobilenet_v3_small"})
    check_maps(config, num_classes=10, image_size=32)
    assert bank_precision(config, small_inputs.dataset, small_inputs.splits) == "float16"


def test_entropy_weights_are_highest_where_both_are_unsure_and_carry_no_gradient() -> None:
    sure, unsure = torch.tensor([[40.0, 0.0, 0.0]]), torch.zeros(1, 3)
    student_logits = torch.cat([sure, unsure, sure, unsure]).requires_grad_()
    weights = entropy_adaptive_weights(student_logits, torch.cat([sure, sure, unsure, unsure]), temperature=1.0)
    assert not weights.requires_grad
    assert weights.tolist() == pytest.approx([0, 0, math.log(3) / 2, math.log(3)], abs=1e-6)


@pytest.mark.parametrize("name", ["kd", "ofa", "pld"])
def test_any_loss_may_be_weighted_by_entropies(name: str, trial_of: TrialOf) -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    plain, weighted = (
        Distillation(trial_of(loss=loss).config.loss)(student_logits, teacher_logits, TARGETS)
        for loss in (name, {"name": name, "ENTROPY_ADAPTIVE": True})
    )
    torch.testing.assert_close(weighted, entropy_adaptive_weights(student_logits, teacher_logits) * plain)


def test_each_loss_of_a_sum_has_its_own_entropy_weights(trial_of: TrialOf) -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    terms = [{"name": "kd", "weight": 2, "entropy_adaptive": True}, {"name": "pld", "weight": 3}]
    losses = Distillation(trial_of(loss=terms).config.loss)(student_logits, teacher_logits, TARGETS)
    kd_loss, pld_loss = (
        Distillation(LOSSES.checked(each))(student_logits, teacher_logits, TARGETS) for each in ("kd", "pld")
    )
    weights = entropy_adaptive_weights(student_logits, teacher_logits)
    torch.testing.assert_close(losses, 2 * weights * kd_loss + 3 * pld_loss)


def test_entropy_weights_make_another_trial_and_their_absence_does_not(trial_of: TrialOf) -> None:
    without, off, on = (
        trial_of(loss={"name": "kd", **keys}) for keys in ({}, {"entropy_adaptive": False}, {"entropy_adaptive": True})
    )
    assert without.config.loss == {"name": "kd", "temperature": 4, "direction": "forward", "standardize": False}
    assert without.config_id == off.config_id != on.config_id


def test_temperature_curriculum_is_the_published_one() -> None:
    # The official code's CosineDecay from 0 to -1 over 10 epochs, without its sign.
    assert reversal_strength(1, 10) == pytest.approx(0.024471741852423234, rel=1e-12)
    assert reversal_strength(5, 10) == pytest.approx(0.5, rel=1e-12)
    assert [reversal_strength(epoch, 10) for epoch in (10, 11, 240)] == [1.0, 1.0, 1.0]


def test_learned_temperature_starts_where_the_official_one_does() -> None:
    module = CurriculumTemperature()
    assert module.temperature(1).item() == pytest.approx(1 + 20 / (1 + math.exp(-1)), rel=1e-6)
    losses = module(random_logits(1), random_logits(2), TARGETS, epoch=1)
    torch.testing.assert_close(losses, kd(random_logits(1), random_logits(2), module.temperature(1).item()))


@pytest.mark.parametrize("epoch", [1, 5, 10, 30])
def test_temperature_learns_against_the_student_as_far_as_the_curriculum_is(epoch: int) -> None:
    module = CurriculumTemperature().double()
    student_logits = random_logits(1).requires_grad_()
    module(student_logits, random_logits(2), TARGETS, epoch=epoch).sum().backward()

    def total(position: Tensor) -> Tensor:
        return kd(random_logits(1), random_logits(2), 1 + 20 * position.sigmoid()).sum()

    position = module.position.detach().clone().requires_grad_()
    total(position).backward()
    torch.testing.assert_close(module.position.grad, -reversal_strength(epoch, 10) * position.grad)
    plain = random_logits(1).requires_grad_()
    kd(plain, random_logits(2), module.temperature(epoch).detach()).sum().backward()
    torch.testing.assert_close(student_logits.grad, plain.grad)


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("dist", (1, 1)),
        ("ofa", (1, 1)),
        ("ofa_stages", (1, 1)),
        ("mlkd", (0.1, 9)),
        ("ctkd", (0.1, 0.9)),
        ("dhkd", (1, 1)),
    ],
)
def test_weights_are_those_of_the_releases(trial_of: TrialOf, name: str, weights: tuple[float, float]) -> None:
    config = trial_of(loss=name).config
    assert (config.ce_weight, config.kd_weight) == weights


@pytest.mark.parametrize(
    "loss",
    [
        "dist",
        "ofa",
        "ctkd",
        "dhkd",
        "ofa_stages",
        "mlkd",
        {"name": "kd", "direction": "js"},
        {"name": "kd", "direction": "tvd"},
        {"name": "kd", "entropy_adaptive": True},
    ],
    ids=str,
)
def test_a_short_trial_learns(finished: Finished, loss: Any) -> None:
    training, rows = finished(loss=loss, epochs=4, evaluations=2)
    assert training.status == "budget" and all(math.isfinite(row.train_loss) for row in rows)
    assert rows[-1].train_loss < rows[0].train_loss


def test_learned_temperature_moves_and_is_in_the_checkpoint(finished: Finished) -> None:
    training, _ = finished(loss="ctkd", epochs=3)
    (position,) = training.distiller.distillation.parameters()
    assert position.item() != 1.0
    assert training.distiller.state_dict()["distillation"]["term0.position"].item() == position.item()
