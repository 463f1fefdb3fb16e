"""Trials with each loss on maps or pooled features: finite, reproducible, resumable."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdas import models, seeding
from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial, load_inputs

TrialOf = Callable[..., Trial]
# Losses that the field calls feature distillation; fewer negatives than samples, so that some are drawn.
FEATURE_LOSSES: list[dict[str, Any]] = [
    {"name": "at"},
    {"name": "crd", "num_negatives": 32},
    {"name": "fitnet"},
    {"name": "kdsvd"},
    {"name": "nst"},
    {"name": "ofd"},
    {"name": "pkt"},
    {"name": "reviewkd", "warmup_epochs": 2},
    {"name": "rkd"},
    {"name": "sp"},
    {"name": "vid"},
]
FIXED_VARIANCES = {"name": "vid", "learned_variances": False}


@pytest.fixture(scope="module")
def inputs(small_inputs: Inputs) -> Inputs:
    """The small trial's inputs with a deeper teacher."""
    with seeding.global_draws(7, "deeper teacher"):
        model = models.create("resnet20", 10)
    return replace(small_inputs, teacher=replace(small_inputs.teacher, model=model.requires_grad_(False).eval()))


@pytest.mark.parametrize("loss", [*FEATURE_LOSSES, FIXED_VARIANCES], ids=lambda loss: "-".join(map(str, loss.values())))
def test_trial_is_finite_and_a_resumed_one_equals_it_bit_for_bit(
    loss: dict[str, Any], inputs: Inputs, trial_of: TrialOf, calibration: Calibration, tmp_path: Path
) -> None:
    trial = Trial(trial_of(loss=loss, epochs=2, evaluations=4).config, inputs)
    uninterrupted = Training(trial, Surroundings(calibration))
    rows = list(uninterrupted.rows())
    assert len(rows) == 4 and all(math.isfinite(row.train_loss) for row in rows)

    surroundings = Surroundings(calibration, checkpoint=tmp_path / "checkpoint", checkpoint_every_s=0)
    for row in Training(trial, surroundings).rows():
        if row.epoch == 2:
            break
    resumed = Training(trial, surroundings)
    assert resumed.epoch == 1
    rest = list(resumed.rows())
    assert [row.train_loss for row in rest] == [row.train_loss for row in rows[-len(rest) :]]
    for part in ("student", "distillation"):
        state, expected = (each.distiller.state_dict()[part] for each in (resumed, uninterrupted))
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[key], expected[key]) for key in expected)


@pytest.mark.parametrize("loss", FEATURE_LOSSES, ids=lambda loss: loss["name"])
def test_loss_trains_the_student_and_what_it_learns_itself(
    loss: dict[str, Any], inputs: Inputs, trial_of: TrialOf, calibration: Calibration
) -> None:
    optimizer = {"learning_rate": 0.02, "weight_decay": 0.0}  # which would move all weights
    config = trial_of(loss=loss, ce_weight=0.0, optimizer=optimizer, epochs=1, evaluations=1).config
    assert config.kd_weight == LOSSES[loss["name"]].usual["kd_weight"]
    training = Training(Trial(config, inputs), Surroundings(calibration))
    # No label loss reaches the last layer, and no hint of the second stage the third.
    untouched = ("fc.", "layer3.") if loss["name"] == "fitnet" else ("fc.",)
    modules = (training.distiller.student, training.distiller.distillation)
    trained = {name: parameter for module in modules for name, parameter in module.named_parameters()}
    before = {name: parameter.detach().clone() for name, parameter in trained.items()}
    list(training.rows())
    for name, parameter in trained.items():
        assert torch.equal(parameter, before[name]) == name.startswith(untouched), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "dot"])
def test_variances_that_are_not_learned_stay_whatever_the_optimizer_and_its_weight_decay(
    optimizer: str, inputs: Inputs, trial_of: TrialOf, calibration: Calibration
) -> None:
    config = trial_of(loss=FIXED_VARIANCES, optimizer={"name": optimizer}, epochs=1, evaluations=1).config
    training = Training(Trial(config, inputs), Surroundings(calibration))
    variances = {
        name: each.clone() for name, each in training.distiller.distillation.named_parameters() if "raw" in name
    }
    assert variances
    list(training.rows())
    after = dict(training.distiller.distillation.named_parameters())
    assert all(torch.equal(after[name], each) for name, each in variances.items())


def test_loss_that_does_not_fit_the_models_is_refused_before_anything_is_trained(config_of: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^loss fitnet: layer: expected a value in \[0, 3\], got 4\."):
        load_inputs(config_of(loss={"name": "fitnet", "layer": 4}))
    with pytest.raises(UserError, match=r"^loss at: expected at least 2 maps .* got 1 of the student and 4 of the tea"):
        load_inputs(config_of(loss=[{"name": "kd", "weight": 1}, {"name": "at", "weight": 9}], student_layers=["bn1"]))
