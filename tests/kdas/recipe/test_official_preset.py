"""The preset `official`, step by step, against a slow and literal transcription of the release's algorithm."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdas import models, seeding
from kdas.clock import Calibration
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
EPOCHS, BATCH_SIZE, SEED, LEARNING_RATE = 8, 16, 1, 0.02


@dataclass(frozen=True)
class Step:
    """The samples and the loss of one update."""

    indices: list[int]
    loss: float


class Transcription:
    """The release's loop in the order of its description. It shares only the random draws with the trainer."""

    start_rate, end_rate, periods = 0.6, 0.4, (1, 3, 5, 10)
    excluded_share, threshold, penalty_lambda, penalty_factor = 0.05, 0.2, 1000.0, 0.5
    temperature, ce_weight, kd_weight = 4.0, 0.1, 9.0

    def __init__(self, trial: Trial) -> None:
        self.splits, self.teacher = trial.inputs.splits, trial.inputs.teacher.model
        self.num_samples = len(self.splits.train)
        with seeding.global_draws(SEED, "student"):
            self.student = models.create("resnet8", 10)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=EPOCHS, eta_min=1e-5)
        self.remembered: list[int] = []

    def run(self) -> list[Step]:
        steps = []
        for epoch in range(1, EPOCHS + 1):
            steps += self.epoch(epoch)
            self.scheduler.step()
        return steps

    def epoch(self, epoch: int) -> list[Step]:
        rate = (
            self.end_rate + (self.start_rate - self.end_rate) * (1 + math.cos(math.pi * (epoch - 1) / (EPOCHS - 1))) / 2
        )
        segment = min((epoch - 1) // (EPOCHS // len(self.periods)), len(self.periods) - 1)
        view_ids = self.splits.views.draw(self.num_samples, SEED, epoch)
        steps = []
        if (epoch - 1) % self.periods[segment] == 0:
            order = torch.randperm(self.num_samples, generator=seeding.generator(SEED, "order", epoch)).tolist()
            self.remembered = []
            large = math.ceil(BATCH_SIZE / rate)
            for first in range(0, self.num_samples, large):
                chosen = self.chosen(order[first : first + large], view_ids, epoch)
                self.remembered += chosen
                steps.append(self.step(chosen, view_ids))
            return steps
        known = sorted(set(self.remembered))
        shuffle = torch.randperm(len(known), generator=seeding.generator(SEED, "cached order", epoch)).tolist()
        order = [known[position] for position in shuffle]
        for first in range(0, len(order), BATCH_SIZE):
            steps.append(self.step(order[first : first + BATCH_SIZE], view_ids))
        return steps

    def images(self, indices: list[int], view_ids: Tensor) -> Tensor:
        ((_, images),) = self.splits.train.read([torch.tensor(indices)])
        return self.splits.normalized(self.splits.views.apply(images, view_ids[indices]))

    def chosen(self, indices: list[int], view_ids: Tensor, epoch: int) -> list[int]:
        """Student and teacher both run on the large batch, the student in training mode and with gradients."""
        images = self.images(indices, view_ids)
        student_logits, teacher_logits = self.student.train()(images), self.teacher(images)
        if len(indices) < BATCH_SIZE:
            return indices
        scores = []
        for student_row, teacher_row in zip(student_logits, teacher_logits, strict=True):
            teacher = teacher_row.softmax(dim=0)
            divergence = (teacher * (teacher.log() - student_row.softmax(dim=0).log())).sum()
            scores.append(float(divergence.detach()))
        excluded = self.excluded_share
        if epoch > 0.625 * EPOCHS:
            excluded *= (EPOCHS - epoch) / (EPOCHS - 0.625 * EPOCHS)
        skipped = math.ceil(len(indices) * excluded)
        ranked = sorted(range(len(indices)), key=lambda position: -scores[position])
        return [indices[position] for position in ranked[skipped : skipped + BATCH_SIZE]]

    def step(self, indices: list[int], view_ids: Tensor) -> Step:
        """Both networks run again on the chosen samples; the weighted divergence is from student to teacher."""
        images, targets = self.images(indices, view_ids), self.splits.train.labels[indices]
        student_logits, teacher_logits = self.student.train()(images), self.teacher(images)
        weights = self.penalty_weights(teacher_logits, targets)
        total = torch.zeros(())
        for student_row, teacher_row, weight in zip(student_logits, teacher_logits, weights, strict=True):
            student = (student_row / self.temperature).softmax(dim=0)
            teacher = (teacher_row / self.temperature).softmax(dim=0)
            total = total + weight * self.temperature**2 * (student * (student.log() - teacher.log())).sum()
        loss = self.ce_weight * functional.cross_entropy(student_logits, targets)
        loss = loss + self.kd_weight * total / len(indices)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return Step(indices, float(loss.detach()))

    def penalty_weights(self, teacher_logits: Tensor, targets: Tensor) -> list[float]:
        divergences = []
        for row, target in zip(teacher_logits, targets, strict=True):
            smoothed = torch.full((10,), 1e-6 / 9)
            smoothed[target] = 1 - 1e-6
            divergences.append(float((smoothed * (smoothed.log() - row.log_softmax(dim=0))).sum()))
        low, high = (float(torch.tensor(divergences).quantile(share)) for share in (self.threshold, 1 - self.threshold))
        weights = []
        for divergence in divergences:
            distance = max(low - divergence, divergence - high, 0.0)
            weights.append(min(max(1 - self.penalty_lambda * distance, self.penalty_factor), 1.0))
        return weights


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make both sides compute in float64, including the trainer, which uses float32.

    In float32 the two round differently, and scores within a batch differ by as little as 1e-7: which of two samples
    is chosen, and all that follows, would be chance. In float64, scores would have to be closer than 1e-13 for that.
    """
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def steps_of(training: Training, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The steps that the trainer really takes."""
    steps: list[Step] = []
    original = Distiller.step

    def recorded(self: Distiller, batch: Batch, *arguments: Any) -> tuple[Tensor, Tensor]:
        loss, losses = original(self, batch, *arguments)
        steps.append(Step(batch.indices.tolist(), float(loss)))
        return loss, losses

    monkeypatch.setattr(Distiller, "step", recorded)
    assert list(training.rows())
    return steps


@pytest.mark.usefixtures("in_float64")
def test_official_trial_agrees_step_by_step_with_a_literal_transcription(
    trial_of: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {"learning_rate": LEARNING_RATE}
    # A live teacher, since no bank stores float64.
    trial = trial_of(preset="official", bank="live", sampler="kdas", epochs=EPOCHS, optimizer=optimizer, evaluations=4)
    teacher = replace(trial.inputs.teacher, model=copy.deepcopy(trial.inputs.teacher.model).double())
    trial = replace(trial, inputs=replace(trial.inputs, teacher=teacher))
    training = Training(trial, Surroundings(calibration))
    # Train to the end: this compares the method, not the budget.
    training.budget_ref_s = math.inf
    ours, theirs = steps_of(training, monkeypatch), Transcription(trial).run()
    assert [step.indices for step in ours] == [step.indices for step in theirs]
    assert [step.loss for step in ours] == pytest.approx([step.loss for step in theirs], rel=1e-9)
    sizes = {len(step.indices) for step in theirs}
    assert len(theirs) > 25 and max(sizes) == BATCH_SIZE and min(sizes) < BATCH_SIZE


def test_default_trial_does_not_agree_with_the_transcription(
    trial_of: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizer = {"learning_rate": LEARNING_RATE}
    trial = trial_of(sampler="kdas", epochs=EPOCHS, optimizer=optimizer, evaluations=4)
    ours = steps_of(Training(trial, Surroundings(calibration)), monkeypatch)
    assert ours[0].loss != pytest.approx(Transcription(trial).run()[0].loss, rel=1e-3)
