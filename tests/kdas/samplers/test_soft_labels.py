"""Weights of the distillation term that look at the student's logits of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdas.clock import Calibration, Work
from kdas.data import Draw
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS
from kdas.samplers.soft_labels import soft_label_weights
from kdas.samplers.subsets import Full
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
ConfigOf = Callable[..., TrialConfig]


def test_a_weight_is_one_minus_exp_of_the_ratio_of_cross_entropies() -> None:
    student, teacher = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    targets = torch.tensor([0, 1])
    of_student = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-1))]
    of_teacher = [math.log(1 + math.exp(-1)), math.log(1 + math.exp(3))]
    expected = [1 - math.exp(-s / t) for s, t in zip(of_student, of_teacher, strict=True)]
    assert soft_label_weights(student, teacher, targets).tolist() == pytest.approx(expected, rel=1e-5)


def test_where_the_teacher_is_sure_of_the_label_weights_stay_finite() -> None:
    sure = torch.tensor([[200.0, 0.0]])
    assert soft_label_weights(torch.zeros(1, 2), sure, torch.tensor([0])).tolist() == [1.0]
    assert soft_label_weights(sure, sure, torch.tensor([0])).tolist() == [0.0]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, ...]]:
    """Registers `looking`, whose weights are those of `wsld`; what it was given, call by call."""
    given: list[tuple[Tensor, ...]] = []

    class Looking(Full):
        """Keeps what it sees."""

        def distillation_weights(  # type: ignore[override]
            self, epoch: int, teacher_logits: Tensor, targets: Tensor, weighed_logits: Tensor
        ) -> Tensor:
            given.append((weighed_logits, teacher_logits, targets))
            return soft_label_weights(weighed_logits, teacher_logits, targets)

    monkeypatch.setattr(SAMPLERS, "_parts", dict(SAMPLERS._parts))
    SAMPLERS.register("looking", source="a test", needs=["weighed_logits"])(Looking)
    return given


def test_the_logits_are_those_of_the_step_and_carry_no_gradient(
    trial_of: TrialOf, calibration: Calibration, seen: list[tuple[Tensor, ...]]
) -> None:
    training = Training(trial_of(sampler="looking", epochs=1, evaluations=1), Surroundings(calibration))
    list(training.rows())
    weighed, teacher_logits, targets = seen[-1]
    assert torch.equal(weighed, training.distiller.trained_logits)
    assert not weighed.requires_grad and weighed.shape == teacher_logits.shape and len(weighed) == len(targets)


def test_with_accumulation_each_part_is_asked_about_with_its_own_rows(
    trial_of: TrialOf, calibration: Calibration, seen: list[tuple[Tensor, ...]]
) -> None:
    training = Training(trial_of(sampler="looking", accumulate=2, epochs=1, evaluations=1), Surroundings(calibration))
    list(training.rows())
    assert {len(weighed) for weighed, *_ in seen[:12]} == {8}
    assert all(len(weighed) == len(of_teacher) == len(labels) for weighed, of_teacher, labels in seen)


def test_the_weighted_step_minimises_the_weighted_loss(trial_of: TrialOf) -> None:
    trial = trial_of(sampler="wsld")
    distiller = trial.distiller()
    indices, images = next(trial.inputs.splits.training_batches([torch.arange(16)], Draw(seed=1, epoch=1)))
    batch = distiller.asked(distiller.batch(indices, images))
    of_teacher = batch.answer
    assert of_teacher is not None
    given: list[Tensor] = []

    def weigh(positions: Tensor, logits: Tensor) -> Tensor:
        given.append(soft_label_weights(logits, of_teacher.logits[positions], batch.targets[positions]))
        return given[-1]

    weighted, losses = trial.distiller().step(batch, epoch=1, weights=weigh)
    by_tensor, same_losses = trial.distiller().step(batch, epoch=1, weights=given[0])
    assert torch.equal(weighted, by_tensor) and torch.equal(losses, same_losses)
    assert weighted < losses.mean()


def test_weights_are_charged_and_no_forward_pass_is(
    trial_of: TrialOf, config_of: ConfigOf, calibration: Calibration
) -> None:
    trainings = [
        Training(trial_of(sampler=name, budget_ref_s=1e6), Surroundings(calibration)) for name in ("wsld", "full")
    ]
    for training in trainings:
        list(training.rows())
    weighing, plain = (training.clock for training in trainings)
    assert weighing.samples(Work.WEIGH) == weighing.samples(Work.STEP) == plain.samples(Work.STEP)
    assert weighing.samples(Work.SCORE) == plain.samples(Work.WEIGH) == 0
    num_samples = plain.samples(Work.STEP) // 3
    estimate = estimated_cost_ref_s(config_of(sampler="wsld"), num_samples, calibration)
    assert estimate == pytest.approx(weighing.cost_ref_s, rel=0.02)
