"""Decoupled, ranking and feature distillation, and sums of several losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdas import models, seeding
from kdas.clock import Calibration, Work
from kdas.losses import LOSSES, Distillation, dkd
from kdas.losses.features import norm_direction
from kdas.losses.ranking import pld
from kdas.teacher.obtain import class_means
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
Finished = Callable[..., Any]


def random_logits(seed: int, rows: int = 8, columns: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(rows, columns, generator=generator, dtype=torch.float64)


TARGETS = torch.arange(8) % 6


def test_decoupled_parts_add_up_to_kd_when_the_rest_weighs_what_the_teacher_leaves_it() -> None:
    """KD is TCKD + (1 - p_t) NCKD, the identity by which its authors motivate the split."""
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    rest = 1 - teacher_logits.softmax(dim=1).gather(1, TARGETS[:, None]).squeeze(1)
    target_part = dkd(student_logits, teacher_logits, TARGETS, 1.0, 0.0, 1.0)
    rest_part = dkd(student_logits, teacher_logits, TARGETS, 0.0, 1.0, 1.0)
    whole = functional.kl_div(
        student_logits.log_softmax(dim=1), teacher_logits.log_softmax(dim=1), reduction="none", log_target=True
    ).sum(dim=1)
    torch.testing.assert_close(target_part + rest * rest_part, whole)


def test_decoupled_loss_sets_in_over_its_warm_up() -> None:
    loss: Any = LOSSES.build(LOSSES.checked({"name": "dkd", "warmup_epochs": 20}))
    arguments = (random_logits(1), random_logits(2), TARGETS)
    whole = dkd(*arguments, 1.0, 8.0, 4.0)
    for epoch, share in ((1, 0.05), (10, 0.5), (20, 1.0), (35, 1.0)):
        torch.testing.assert_close(loss(*arguments, epoch=epoch), share * whole)
    without: Any = LOSSES.build(LOSSES.checked({"name": "dkd", "warmup_epochs": 0}))
    torch.testing.assert_close(without(*arguments, epoch=1), whole)


def test_ranking_loss_is_a_chain_of_choices_weighted_by_the_teachers_belief() -> None:
    student_logits, teacher_logits = random_logits(1), random_logits(2)
    expected = []
    for student, teacher, target in zip(student_logits, teacher_logits, TARGETS.tolist(), strict=True):
        others = sorted((each for each in range(6) if each != target), key=lambda each: -float(teacher[each]))
        left, loss = [target, *others], 0.0
        while left:
            choice = left[0]
            denominator = sum(math.exp(float(student[each])) for each in left)
            loss -= float(teacher.softmax(dim=0)[choice]) * math.log(math.exp(float(student[choice])) / denominator)
            left = left[1:]
        expected.append(loss)
    assert pld(student_logits, teacher_logits, TARGETS).tolist() == pytest.approx(expected, rel=1e-9)


def test_ranking_loss_of_a_certain_teacher_is_the_cross_entropy() -> None:
    certain = torch.full((8, 6), -100.0, dtype=torch.float64).scatter_(1, TARGETS[:, None], 100.0)
    student_logits = random_logits(1)
    torch.testing.assert_close(
        pld(student_logits, certain, TARGETS), functional.cross_entropy(student_logits, TARGETS, reduction="none")
    )


def test_feature_loss_is_zero_along_the_class_direction_at_the_teachers_length() -> None:
    direction = functional.normalize(random_logits(1, 3), dim=1)
    teacher_features = 2 * functional.normalize(random_logits(2, 3), dim=1)
    longer = torch.stack([2 * direction[0], 5 * direction[1], 0.5 * direction[2]])
    losses = norm_direction(longer, teacher_features, direction)
    assert losses.tolist() == pytest.approx([0.0, 0.0, 0.75], abs=1e-12)
    assert norm_direction(-2 * direction, teacher_features, direction).tolist() == pytest.approx([2.0] * 3)
    assert norm_direction(torch.zeros(3, 6), torch.zeros(3, 6), direction).tolist() == [1.0] * 3


def test_class_means_are_the_means_of_the_teachers_features(trial_of: TrialOf) -> None:
    inputs = trial_of().inputs
    splits, teacher = inputs.splits, inputs.teacher.model
    means = class_means(teacher, splits)
    with torch.no_grad():
        features = teacher.forward_with_features(
            splits.normalized(next(splits.train.read([torch.arange(len(splits.train))]))[1])
        )[1]
    for label in range(10):
        torch.testing.assert_close(means[label], features[splits.train.labels == label].mean(dim=0))


def test_feature_loss_learns_a_projection_where_widths_differ_and_pays_for_the_class_means(
    trial_of: TrialOf, calibration: Calibration
) -> None:
    same = trial_of(loss="nd", ce_weight=1.0).distiller()
    assert not list(same.distillation.parameters())
    with seeding.global_draws(3, "wide"):
        wide = models.create("resnet8x4", 10).requires_grad_(False).eval()
    trial = trial_of(loss="nd", epochs=1)
    inputs = replace(trial.inputs, teacher=replace(trial.inputs.teacher, model=wide))
    training = Training(Trial(trial.config, inputs), Surroundings(calibration))
    (projection,) = training.distiller.distillation.parameters()
    assert projection.shape == (256, 64)
    before = projection.detach().clone()
    assert training.clock.samples(Work.TEACHER) == 100
    rows = list(training.rows())
    assert not torch.equal(projection, before)
    assert rows[-1].teacher_forwards == 200


def test_losses_add_up_by_their_weights(trial_of: TrialOf) -> None:
    terms = [{"name": "kd", "weight": 2}, {"name": "pld", "weight": 0.5}]
    config = trial_of(loss=terms).config
    assert config.kd_weight == 1 and config.ce_weight == 0.1
    arguments = (random_logits(1), random_logits(2), TARGETS)
    kd_loss, pld_loss = (LOSSES.build(LOSSES.checked(name)) for name in ("kd", "pld"))
    torch.testing.assert_close(
        Distillation(config.loss)(*arguments), 2 * kd_loss(*arguments) + 0.5 * pld_loss(*arguments)
    )


@pytest.mark.parametrize(
    ("loss", "weights"), [("kd", (0.1, 9)), ("dkd", (1, 1)), ("pld", (0, 1)), ({"DKD": {"BETA": 2}}, (1, 1))]
)
def test_weights_are_those_of_the_losss_authors_unless_given(
    trial_of: TrialOf, loss: Any, weights: tuple[float, float]
) -> None:
    config = trial_of(loss=loss).config
    assert (config.ce_weight, config.kd_weight) == weights
    assert trial_of(loss=loss, kd_weight=3).config.kd_weight == 3


@pytest.mark.parametrize("sampler", ["kdas", "random", "infobatch", "selective_backprop"])
@pytest.mark.parametrize(
    "loss",
    ["dkd", {"name": "dkd", "standardize": True}, "pld", [{"name": "kd", "weight": 9}, {"name": "nd", "weight": 1}]],
    ids=["dkd", "dkd_std", "pld", "kd_and_nd"],
)
def test_every_loss_trains_under_every_kind_of_sampler(finished: Finished, sampler: str, loss: Any) -> None:
    training, rows = finished(sampler=sampler, loss=loss, epochs=2, evaluations=2)
    assert training.status == "budget" and all(math.isfinite(row.train_loss) for row in rows)
