"""The teacher's accuracy: measured once, kept by weights and data, and told from a guess."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from kdas.command.teacher import tell_quality
from kdas.data import Draw
from kdas.models import Model
from kdas.recipe.config import TrialConfig
from kdas.teacher.obtain import untrained
from kdas.teacher.quality import TeacherQuality, clearly_above
from kdas.training.trial import Inputs, Trial

ConfigOf = Callable[..., TrialConfig]


class Oracle(Model):
    """Knows the labels of the validation images, in their order, and gets every `wrong`th of them wrong."""

    def __init__(self, inputs: Inputs, wrong: int) -> None:
        super().__init__()
        labels = inputs.splits.validation.labels.clone()
        labels[::wrong] = (labels[::wrong] + 1) % 10
        self._answers = torch.nn.functional.one_hot(labels, 10).float()
        self.num_asked = 0

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first, self.num_asked = self.num_asked, self.num_asked + len(images)
        return self._answers[first : first + len(images)], images.mean(dim=(2, 3))


@pytest.fixture
def quality_of(
    small_inputs: Inputs, config_of: ConfigOf, empty_cache: Path
) -> Callable[..., tuple[TeacherQuality, int]]:
    """The quality of an oracle, and how many images it was asked about."""

    def measure(wrong: int, weights_id: str = "one", **changed: Any) -> tuple[TeacherQuality, int]:
        oracle = Oracle(small_inputs, wrong)
        teacher = replace(small_inputs.teacher, model=oracle, weights_id=weights_id)
        quality = replace(small_inputs, teacher=teacher).teacher_quality(config_of(**changed))
        return quality, oracle.num_asked

    return measure


def test_accuracy_is_that_of_the_split_that_decides(quality_of: Callable[..., Any]) -> None:
    quality, num_asked = quality_of(wrong=5)
    assert quality.accuracy == 48 / 60 and num_asked == 60
    assert not quality.is_near_chance


def test_accuracy_is_measured_once_for_weights_data_and_precision(quality_of: Callable[..., Any]) -> None:
    first, _ = quality_of(wrong=5)
    again, num_asked = quality_of(wrong=2)
    assert again == first and num_asked == 0
    for other in ({"weights_id": "two"}, {"precision": "bfloat16"}, {"validation": 0.2}):
        assert quality_of(wrong=2, **other)[1] == 60


def test_damaged_record_is_measured_again(quality_of: Callable[..., Any], empty_cache: Path) -> None:
    first, _ = quality_of(wrong=5)
    (file,) = (empty_cache / "teacher_accuracy").iterdir()
    for damage in ("", "[]", '{"accuracy": "high"}', '{"accuracy": 7}', '{"accu'):
        file.write_text(damage)
        assert quality_of(wrong=5) == (first, 60)


def test_evaluation_leaves_the_settings_of_the_process(quality_of: Callable[..., Any]) -> None:
    torch.set_num_threads(1)
    quality_of(wrong=5)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("chance", "num_images", "least"),
    [
        (0.1, 10_000, 0.15),  # 5 points
        (0.01, 10_000, 0.02),  # twice chance
        (0.5, 10_000, 0.55),
        (0.99, 10_000, 0.995),  # half of what is left
        (0.1, 100, 0.1 + 3 * math.sqrt(0.09 / 100)),  # three standard errors
    ],
)
def test_rule_of_what_is_clearly_above_chance(chance: float, num_images: int, least: float) -> None:
    assert clearly_above(chance, num_images) == pytest.approx(least)


def test_always_naming_the_most_frequent_class_is_chance(small_inputs: Inputs, config_of: ConfigOf) -> None:
    labels = torch.zeros(60, dtype=torch.int64)
    labels[:15] = 1
    validation = replace(small_inputs.splits.validation, labels=labels)  # type: ignore[type-var]
    skewed = replace(small_inputs, splits=replace(small_inputs.splits, validation=validation))
    quality = skewed.teacher_quality(config_of())
    assert quality.chance == 0.75
    assert quality.clear_from == pytest.approx(0.75 + 3 * math.sqrt(0.75 * 0.25 / 60))


def test_network_that_was_taken_from_a_checkpoint_of_several_is_said(
    small_inputs: Inputs, config_of: ConfigOf, empty_cache: Path
) -> None:
    teacher = replace(small_inputs.teacher, model=Oracle(small_inputs, 50), choice="state_dict, not ema")
    said = io.StringIO()
    tell_quality(config_of(), replace(small_inputs, teacher=teacher), Console(file=said, width=60))
    (line,) = said.getvalue().splitlines()
    assert line.startswith("Teacher resnet8: ") and line.endswith("(taken from its checkpoint: state_dict, not ema)")


@pytest.mark.parametrize(("wrong", "warns"), [(50, False), (1, True)])
def test_it_is_said_and_a_teacher_near_chance_is_warned_about(
    small_inputs: Inputs, config_of: ConfigOf, empty_cache: Path, wrong: int, warns: bool
) -> None:
    teacher = replace(small_inputs.teacher, model=Oracle(small_inputs, wrong))
    said = io.StringIO()
    tell_quality(config_of(), replace(small_inputs, teacher=teacher), Console(file=said, width=200))
    lines = said.getvalue().splitlines()
    assert lines[0] == f"Teacher resnet8: {'0.0%' if warns else '96.7%'} validation accuracy"
    assert len(lines) == 1 + warns
    assert not warns or lines[1].startswith("Warning: that is near chance (1")


@pytest.mark.parametrize("transforms", [[], [{"name": "random_erasing", "probability": 1.0}]], ids=["plain", "erased"])
def test_training_views_are_judged_as_a_trial_shows_them(
    trial_of: Callable[..., Trial], transforms: list[dict[str, Any]]
) -> None:
    trial, draw = trial_of(transforms=transforms), Draw(seed=0, epoch=1)
    splits, distiller, right = trial.inputs.splits, trial.distiller(), 0
    for indices, images in splits.training_batches([torch.arange(len(splits.train))], draw):
        batch = distiller.asked(distiller.batch(indices, images, draw))
        assert batch.answer is not None
        right += int((batch.answer.logits.argmax(dim=1) == batch.targets).sum())
    assert trial.inputs.teacher_share_right(trial.config) == right / len(splits.train)


def test_a_teacher_that_is_still_to_be_trained_counts_as_always_right(
    small_inputs: Inputs, config_of: ConfigOf
) -> None:
    teacher = untrained(config_of().teacher, small_inputs.splits, "cpu")
    assert replace(small_inputs, teacher=teacher).teacher_share_right(config_of()) == 1
