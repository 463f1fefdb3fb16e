"""Weights that have been trained on a trial's validation images are told of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdas.clock import Calibration
from kdas.command.teacher import tell_quality
from kdas.students.about import read_about, write_about
from kdas.students.seen import seen_by_kept
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs
from tests.kdas.conftest import TrialOf


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, trial_of: TrialOf, calibration: Calibration) -> Path:
    """A student that was trained with a validation part."""
    folder = tmp_path_factory.mktemp("kept") / "student"
    training = Training(trial_of(epochs=1), Surroundings(calibration, keeps_student=True))
    list(training.rows())
    training.write_student(folder)
    about = read_about(folder)
    write_about(folder, replace(about, recipe={**about.recipe, "validation": 0.2}))
    return folder


@pytest.mark.parametrize(("validation", "is_told"), [(0.4, True), (0.2, False), (0.1, False), (0, False)])
def test_a_larger_validation_part_holds_training_images_of_the_weights(
    validation: float, is_told: bool, kept: Path, trial_of: TrialOf, small_inputs: Inputs
) -> None:
    config, teacher = trial_of().config, {"checkpoint": str(kept)}
    taught = config.model_copy(update={"validation": validation, "teacher": config.teacher.model_copy(update=teacher)})
    begun = config.model_copy(update={"validation": validation, "student_checkpoint": str(kept)})
    for recipe, key in ((taught, "teacher"), (begun, "student")):
        told = seen_by_kept(recipe, small_inputs.dataset)
        assert [each.partition(":")[0] for each in told] == ([f"{key}.checkpoint"] if is_told else [])
        console = Console(record=True, width=400)
        tell_quality(recipe, small_inputs, console)
        said = "was trained with validation: 0.2, so some of its training images are in the validation part here"
        assert (said in console.export_text()) is is_told


def test_nothing_is_told_of_other_data_or_of_a_plain_file(kept: Path, trial_of: TrialOf, small_inputs: Inputs) -> None:
    config = trial_of().config.model_copy(update={"validation": 0.4, "student_checkpoint": str(kept)})
    assert not seen_by_kept(config, replace(small_inputs.dataset, fingerprint="other"))
    plain = config.model_copy(update={"student_checkpoint": str(kept / "model.safetensors")})
    assert not seen_by_kept(plain, small_inputs.dataset)
