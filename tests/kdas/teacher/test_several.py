"""Several teachers that answer as one: the weighted mean of their predictions."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from rich.console import Console

from kdas import models, seeding
from kdas.clock import Calibration
from kdas.command.teacher import tell_quality
from kdas.compute.flops import counted
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.parts.reading import validated
from kdas.parts.settings import merged
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import TeachersConfig
from kdas.teacher.mixture import Mixture
from kdas.teacher.obtain import Teacher, check_checkpoint, obtain
from kdas.training.calibrate import priced_by
from kdas.training.flops import flops_of
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial

ConfigOf = Callable[..., TrialConfig]
TWO: dict[str, Any] = {"of": [{"model": "resnet8", "epochs": 1}, {"model": "resnet14", "epochs": 1}]}


def drawn(name: str, seed: int) -> models.Model:
    with seeding.global_draws(seed, "teacher of the tests"):
        return models.create(name, 10).requires_grad_(False).eval()


@pytest.fixture
def two_teachers(small_inputs: Inputs) -> Inputs:
    """The small data with two drawn teachers, in the shares 3 : 1."""
    members = [Teacher(drawn(name, seed), name, Path(name), False) for name, seed in (("resnet8", 7), ("resnet14", 8))]
    mixture = Mixture([each.model for each in members], [0.75, 0.25]).eval()
    return replace(small_inputs, teacher=Teacher(mixture, "two", Path(), False, "", tuple(members)))


def test_the_softmax_of_the_answer_is_the_weighted_mean_of_the_teachers_predictions() -> None:
    members, images = [drawn("resnet8", 7), drawn("resnet14", 8)], torch.randn(5, 3, 32, 32)
    mean = 0.75 * members[0](images).softmax(1) + 0.25 * members[1](images).softmax(1)
    mixture = Mixture(members, [0.75, 0.25])
    torch.testing.assert_close(mixture(images).softmax(1), mean)
    torch.testing.assert_close(mixture(images).logsumexp(1), torch.zeros(5), atol=1e-5, rtol=0)
    logits, features = mixture.forward_with_features(images)
    torch.testing.assert_close(logits, mixture(images))
    assert features.shape == (5, sum(each.forward_with_features(images)[1].shape[1] for each in members))


def test_one_teacher_twice_is_that_teacher_up_to_a_constant() -> None:
    member, images = drawn("resnet8", 7), torch.randn(5, 3, 32, 32)
    torch.testing.assert_close(Mixture([member, member], [0.5, 0.5])(images), member(images).log_softmax(1))


def test_weights_are_relative_and_equal_by_default(config_of: ConfigOf) -> None:
    assert config_of(teacher=TWO).teacher.shares == (0.5, 0.5)
    assert config_of(teacher={**TWO, "weights": [3, 1]}).teacher.shares == (0.75, 0.25)


def test_each_teacher_is_trained_once_and_shared_with_trials_of_its_own(
    empty_cache: Path, small_inputs: Inputs, config_of: ConfigOf
) -> None:
    of_inputs = (small_inputs.dataset, 0.1, small_inputs.splits, "cpu")
    teacher = obtain(config_of(teacher=TWO).teacher, *of_inputs)
    assert teacher.was_trained and [each.was_trained for each in teacher.members] == [True, True]
    alone = obtain(config_of(teacher=TWO["of"][0]).teacher, *of_inputs)
    assert not alone.was_trained and alone.weights_id == teacher.members[0].weights_id
    again = obtain(config_of(teacher={**TWO, "weights": [2, 2]}).teacher, *of_inputs)
    assert again.weights_id == teacher.weights_id and not again.was_trained
    others = obtain(config_of(teacher={**TWO, "weights": [2, 1]}).teacher, *of_inputs)
    assert others.weights_id != teacher.weights_id
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters()) and not teacher.model.training


def test_a_bank_of_the_mean_gives_the_curve_of_live_teachers_up_to_rounding(
    empty_cache: Path, two_teachers: Inputs, config_of: ConfigOf, calibration: Calibration
) -> None:
    rows = {}
    for bank in ("float32", "live"):
        training = Training(Trial(config_of(teacher=TWO, bank=bank), two_teachers), Surroundings(calibration))
        rows[bank] = list(training.rows())
        assert (training.bank is None) is (bank == "live")
    for from_bank, live in zip(*rows.values(), strict=True):
        assert from_bank.train_loss == pytest.approx(live.train_loss, rel=1e-3)
        assert from_bank.cost_ref_s == live.cost_ref_s


def test_every_teachers_forward_pass_is_priced_and_counted(
    two_teachers: Inputs, config_of: ConfigOf, calibration: Calibration
) -> None:
    trial = Trial(config_of(teacher=TWO), two_teachers)
    size = two_teachers.splits.image_size
    images = torch.zeros(2, 3, size, size)
    each = [counted(lambda model=each.model: model(images)) / 2 for each in two_teachers.teacher.members]  # type: ignore[misc]
    assert flops_of(trial).teacher >= sum(each)
    assert priced_by(trial.config)["teacher"] == "resnet8+resnet14"
    assert trial.pair == "resnet8+resnet14->resnet8"


def test_the_accuracy_of_each_teacher_and_of_their_mean_is_said(
    empty_cache: Path, two_teachers: Inputs, config_of: ConfigOf
) -> None:
    said = io.StringIO()
    tell_quality(config_of(teacher=TWO), two_teachers, Console(file=said, width=200))
    lines = said.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["Teacher resnet8", "Teacher resnet14", "Their mean"]


def test_two_teachers_of_one_model_are_told_apart(empty_cache: Path, two_teachers: Inputs, config_of: ConfigOf) -> None:
    twice = {"of": [{"model": "resnet8"}, {"model": "resnet8", "seed": 1}]}
    assert list(two_teachers.member_qualities(config_of(teacher=twice))) == ["resnet8 (1)", "resnet8 (2)"]


@pytest.mark.parametrize(
    ("teacher", "mistake"),
    [
        ({**TWO, "weights": [1]}, r"teacher\.weights: expected 2 numbers, one for each teacher, got 1\."),
        ({**TWO, "weights": [1, 0]}, r"teacher\.weights\.1: expected a value over 0\.0, got 0\. Weight of each"),
        ({"of": TWO["of"][:1]}, r"teacher\.of: "),
        ({**TWO, "epochs": 3}, r"teacher\.epochs: unknown key"),
        ({"of": [*TWO["of"], {"model": "resnet9"}]}, r"teacher\.of\.2\.model: .*Did you mean"),
        (
            {"of": [*TWO["of"], {"model": "resnet8", "optimizer": {"name": "dot"}}]},
            r"teacher\.of\.2\.optimizer\.name: dot",
        ),
    ],
)
def test_a_mistake_in_one_of_the_teachers_is_told_with_its_place(
    config_of: ConfigOf, teacher: dict[str, Any], mistake: str
) -> None:
    content = {"dataset": "digits", "teacher": teacher, "student": "resnet8"}
    with pytest.raises(UserError, match=mistake):
        validated(TrialConfig, content, source="x.yaml")


@pytest.mark.parametrize(
    ("loss", "need"), [("fitnet", "teacher_maps"), ("rkd", "teacher_features"), ("nd", "class_means")]
)
def test_losses_on_maps_or_features_of_the_teacher_are_refused(config_of: ConfigOf, loss: str, need: str) -> None:
    with pytest.raises(
        ValidationError, match=rf"loss: {loss} needs (teacher_\w+|{need}), but several teachers give predictions alone"
    ):
        config_of(teacher=TWO, loss=loss)


@pytest.mark.parametrize("loss", ["dkd", "dist", "dhkd", "ofa_stages", "mlkd"])
def test_losses_on_logits_train_with_several_teachers(
    two_teachers: Inputs, config_of: ConfigOf, calibration: Calibration, loss: str
) -> None:
    trial = Trial(config_of(teacher=TWO, loss=loss, epochs=1, evaluations=1, bank="live"), two_teachers)
    (row,) = Training(trial, Surroundings(calibration)).rows()
    assert 0 < row.train_loss < float("inf")


def test_a_missing_checkpoint_is_told_with_the_place_of_its_teacher(
    small_inputs: Inputs, tmp_path: Path, config_of: ConfigOf
) -> None:
    checkpoint.save(tmp_path / "there.pth", {"model": models.create("resnet8", 10).state_dict()})
    of = [{"model": "resnet8", "checkpoint": str(tmp_path / name)} for name in ("there.pth", "gone.pth")]
    config = config_of(teacher={"of": of}).teacher
    with pytest.raises(UserError, match=r"^teacher\.of\.1\.checkpoint: .*gone\.pth: no such checkpoint"):
        check_checkpoint(config, small_inputs.dataset)
    assert isinstance(config, TeachersConfig) and [each.checkpoint for each in config.members] == [
        each["checkpoint"] for each in of
    ]


def test_one_teacher_replaces_several_and_several_replace_one() -> None:
    one = {"teacher": {"model": "resnet20", "epochs": 20}}
    assert merged(one, {"teacher": TWO}) == {"teacher": TWO}
    assert merged({"teacher": TWO}, one) == one
    assert merged(one, {"teacher": {"epochs": 3}}) == {"teacher": {"model": "resnet20", "epochs": 3}}
