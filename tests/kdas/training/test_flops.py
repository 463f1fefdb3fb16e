"""Floating point operations: of student and teacher, of what a loss adds, and counted once for like trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kdas.training import flops
from kdas.training.flops import flops_of
from kdas.training.trial import Inputs, Trial
from tests.kdas.conftest import ConfigOf, TrialOf


def test_a_step_is_a_forward_and_a_backward_pass(trial_of: TrialOf) -> None:
    found = flops_of(trial_of(student="resnet14"))
    assert 0 < found.score < found.step < 3 * found.score
    assert 0 < found.teacher < found.score, "the teacher is a resnet8"


def test_modules_of_a_loss_are_trained_too(trial_of: TrialOf) -> None:
    plain, hints = flops_of(trial_of()), flops_of(trial_of(loss={"name": "fitnet", "layer": 1}))
    # At equal sizes a 1x1 convolution from 16 channels to 16, a multiplication and an addition at each of 8x8 places.
    forward = 16 * 16 * 8 * 8 * 2
    # Backwards, both the map and the weights have gradients.
    assert hints == replace(plain, step=plain.step + 3 * forward)


def test_a_strong_view_takes_a_second_pass_of_both_models(trial_of: TrialOf) -> None:
    plain, strong = flops_of(trial_of()), flops_of(trial_of(loss="mlkd"))
    assert strong.score == plain.score and strong.teacher == 2 * plain.teacher
    assert strong.step > 2 * plain.step, "it also compares the samples of a batch with each other"


def test_a_memory_counts_by_its_size(small_inputs: Inputs, config_of: ConfigOf) -> None:
    half = replace(small_inputs, splits=replace(small_inputs.splits, train=_first(small_inputs, 50)))
    config = config_of(loss={"name": "crd", "num_negatives": 8})
    whole_step, half_step = (flops_of(Trial(config, inputs)).step for inputs in (small_inputs, half))
    # Embeddings of 128 numbers, two sides, a multiplication and an addition; the memories have no gradient.
    assert whole_step - half_step == pytest.approx(50 * 128 * 2 * 2 * 2)


def _first(inputs: Inputs, count: int) -> Any:
    train: Any = inputs.splits.train
    return replace(train, labels=train.labels[:count], rows=train.rows[:count])


def test_operations_are_counted_once_for_trials_that_cost_the_same(
    small_inputs: Inputs, config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[Callable[[], object]] = []

    def noted(work: Callable[[], object]) -> float:
        counts.append(work)
        return 2.0

    monkeypatch.setattr(flops, "counted", noted)
    inputs = replace(small_inputs)
    for seed, temperature in ((1, 4.0), (2, 2.0)):
        flops_of(Trial(config_of(seed=seed, loss={"name": "kd", "temperature": temperature}), inputs))
    assert len(counts) == 3, "score, step, teacher"
    flops_of(Trial(config_of(loss="fitnet"), inputs))
    assert len(counts) == 6
