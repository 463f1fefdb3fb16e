"""`teacher: self`: the student learns from its own past, as in PS-KD."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from torch.nn import functional

from kdas.clock import Calibration, Work
from kdas.command.teacher import tell_quality
from kdas.errors import UserError
from kdas.losses.ps_kd import progressive_targets
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import SelfTeacher
from kdas.teacher.bank import bank_precision
from kdas.teacher.obtain import untrained
from kdas.training.batch import Batch
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial

ConfigOf = Callable[..., TrialConfig]
TrialOf = Callable[..., Trial]
PS_KD: dict[str, Any] = {"teacher": "self", "loss": "ps_kd"}
WAITING = {"name": "kdas", "warmup_epochs": 1, "sampling_period": [2]}


@pytest.fixture
def self_taught(config_of: ConfigOf, small_inputs: Inputs) -> TrialOf:
    """A small trial of PS-KD, with its inputs as they are loaded: without a network for a teacher."""
    teacher = untrained(SelfTeacher(), small_inputs.splits, "cpu")
    return lambda **changed: Trial(config_of(**{**PS_KD, **changed}), replace(small_inputs, teacher=teacher))


def test_targets_move_from_the_label_to_the_teacher() -> None:
    teacher_logits, targets = torch.randn(4, 10), torch.arange(4)
    labels = functional.one_hot(targets, 10).float()
    assert torch.equal(progressive_targets(teacher_logits, targets, 0.0), labels)
    torch.testing.assert_close(progressive_targets(teacher_logits, targets, 1.0), teacher_logits.softmax(1))
    torch.testing.assert_close(
        progressive_targets(teacher_logits, targets, 0.2), 0.8 * labels + 0.2 * teacher_logits.softmax(1)
    )


def test_the_loss_is_the_cross_entropy_on_the_targets_of_the_epoch(self_taught: TrialOf) -> None:
    distiller = self_taught(epochs=4).distiller()
    student, teacher, targets = torch.randn(4, 10), torch.randn(4, 10), torch.arange(4)
    for epoch, share in ((2, 0.4), (4, 0.8)):
        expected = functional.cross_entropy(student, progressive_targets(teacher, targets, share), reduction="none")
        torch.testing.assert_close(distiller.distillation(student, teacher, targets, epoch=epoch), expected)


def test_in_the_first_epoch_only_the_labels_teach(
    self_taught: TrialOf, trial_of: TrialOf, calibration: Calibration
) -> None:
    by_labels = trial_of(ce_weight=1.0, kd_weight=0.0, loss="ofa", bank="live")
    students = []
    for trial in (self_taught(), by_labels):
        training = Training(trial, Surroundings(calibration))
        training.epoch = 1
        list(training._train_epoch(1))
        students.append(training.distiller.student.state_dict())
    for name, weights in students[0].items():
        torch.testing.assert_close(weights, students[1][name], atol=1e-6, rtol=1e-5)


def test_the_teacher_is_the_student_at_the_end_of_the_last_epoch(
    self_taught: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(self_taught(), Surroundings(calibration))
    at_end: list[dict[str, torch.Tensor]] = []
    answering: list[dict[str, torch.Tensor]] = []
    asked = training.distiller.asked

    def kept() -> dict[str, torch.Tensor]:
        return {name: each.clone() for name, each in training.distiller.teacher.state_dict().items()}

    def seen(batch: Batch) -> Batch:
        answering.append(kept())
        return asked(batch)

    monkeypatch.setattr(training.distiller, "asked", seen)
    for epoch in (1, 2, 3):
        training.epoch = epoch
        list(training._train_epoch(epoch))
        at_end.append({name: each.clone() for name, each in training.distiller.student.state_dict().items()})
        if epoch > 1:
            assert all(torch.equal(each, at_end[epoch - 2][name]) for name, each in answering[-1].items())
    assert not training.distiller.teacher.training


def test_forward_passes_of_the_past_student_are_charged_from_the_second_epoch_on(
    self_taught: TrialOf, calibration: Calibration
) -> None:
    trial = self_taught()
    training = Training(trial, Surroundings(calibration))
    rows = list(training.rows())
    num_trained = training.clock.samples(Work.STEP)
    assert rows[-1].teacher_forwards == training.clock.samples(Work.ASKED) == num_trained * 2 // 3
    assert rows[-1].cost_ref_s == pytest.approx(training.budget_ref_s)
    estimate = estimated_cost_ref_s(trial.config, len(trial.inputs.splits.train), calibration)
    assert estimate == pytest.approx(training.budget_ref_s, rel=0.02)
    assert all(row.test_agreement is None for row in rows) and rows[0].pair == "self->resnet8"


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"sampler": WAITING},
        {"sampler": "infobatch", "ema_decay": 0.9},
        {"sampler": "wsld", "loss": "dkd", "optimizer": {"name": "dot"}, "accumulate": 2},
        {"loss": "mlkd", "precision": "bfloat16"},
        {"loss": "ofa_stages", "transforms": ["mixup"]},
    ],
    ids=str,
)
def test_a_resumed_trial_has_the_curve_of_an_uninterrupted_one(
    self_taught: TrialOf, calibration: Calibration, tmp_path: Path, changed: dict[str, Any]
) -> None:
    trial = self_taught(epochs=4, evaluations=5, **changed)
    whole = list(Training(trial, Surroundings(calibration)).rows())
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    for row in Training(trial, kept).rows():
        if row.epoch >= 3:
            break
    resumed = Training(trial, kept)
    assert resumed.epoch >= 1
    after = [row for row in whole if row.epoch > resumed.epoch]
    not_here = {"wall_s": 0.0, "eval_s": 0.0, "cost_as_run_s": 0.0}
    assert after and [asdict(row) | not_here for row in resumed.rows()] == [asdict(row) | not_here for row in after]


def test_picks_of_the_first_epoch_have_no_confidence(self_taught: TrialOf, calibration: Calibration) -> None:
    training = Training(self_taught(), Surroundings(calibration))
    list(training.rows())
    first, second, *_ = training.picks.windows
    assert sum(first.by_class) == sum(second.by_class) == sum(second.by_confidence)
    assert sum(first.by_confidence) == 0


@pytest.mark.parametrize(
    ("sampler", "remedy"),
    [
        ("kdas", r"Set sampler\.warmup_epochs: 1"),
        ("teacher_correct", "Use another sampler, or another teacher"),
        ({"name": "curriculum", "warmup_epochs": 1}, "Use another sampler, or another teacher"),
        ("scored_subset", "Use another sampler, or another teacher"),
    ],
)
def test_samplers_that_ask_before_there_is_a_past_are_refused(config_of: ConfigOf, sampler: Any, remedy: str) -> None:
    with pytest.raises(ValidationError, match=f"asks the teacher before there is one: .* {remedy}"):
        config_of(**PS_KD, sampler=sampler)


@pytest.mark.parametrize("loss", ["at", "pkt", "nd", "ofd"])
def test_losses_on_features_and_maps_of_the_teacher_are_refused(config_of: ConfigOf, loss: str) -> None:
    with pytest.raises(ValidationError, match=f"loss: {loss} needs .* but teacher: self gives predictions alone"):
        config_of(teacher="self", loss=loss)


def test_settings_of_a_network_are_refused(config_of: ConfigOf) -> None:
    with pytest.raises(ValidationError, match=r"teacher\.epochs"):
        config_of(teacher={"model": "self", "epochs": 3})


def test_a_bank_is_not_used_and_is_refused(self_taught: TrialOf, config_of: ConfigOf) -> None:
    trial = self_taught()
    assert trial.inputs.bank(trial.config) is None
    with pytest.raises(UserError, match=r"bank: float16 is not possible: with teacher: self, answers change"):
        bank_precision(config_of(**PS_KD, bank="float16"), trial.inputs.dataset, trial.inputs.splits)


def test_nothing_is_said_of_the_accuracy_of_a_teacher_that_changes(self_taught: TrialOf) -> None:
    trial, said = self_taught(), io.StringIO()
    tell_quality(trial.config, trial.inputs, Console(file=said))
    assert said.getvalue() == ""


def test_it_reads_what_it_writes(config_of: ConfigOf) -> None:
    config = config_of(**PS_KD)
    assert isinstance(config.teacher, SelfTeacher) and (config.ce_weight, config.kd_weight) == (0.0, 1.0)
    assert TrialConfig(**config.model_dump(mode="json")) == config
