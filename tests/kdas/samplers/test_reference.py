"""Samples by the gap between the student and a reference: which are chosen, what it costs, which weights are taken."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import kdas
from kdas import models, seeding
from kdas.clock import Calibration, Work
from kdas.data import Draw
from kdas.errors import UserError
from kdas.recipe.config import load_trial_config
from kdas.samplers import SAMPLERS, SamplerContext
from kdas.samplers.kdas import knowledge_scores
from kdas.students.start import reference_id
from kdas.training.own_parts import check_own_parts
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

Finished = Callable[..., tuple[Training, list[Any]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, finished: Finished, calibration: Calibration) -> Path:
    """The folder of a student of plain distillation."""
    path = tmp_path_factory.mktemp("kept") / "student"
    training, _ = finished(Surroundings(calibration, keeps_student=True), epochs=2)
    training.write_student(path)
    return path


def part_of(reference: Path, **changed: Any) -> dict[str, Any]:
    return {"name": "reference_gap", "reference": str(reference), **changed}


def test_samples_are_those_on_which_the_student_is_furthest_behind_the_reference() -> None:
    sampler: Any = SAMPLERS.build(SAMPLERS.checked(part_of(Path("x"), rate=0.5)), SamplerContext(100, 3, 4, seed=1))
    teacher = torch.tensor([4.0, 0.0]).repeat(4, 1)
    # The student is wrong about the first two. Nobody learns the second one, so it is of no use.
    student = torch.tensor([[0.0, 4.0], [0.0, 6.0], [3.0, 0.0], [0.0, 0.0]])
    reference = torch.tensor([[4.0, 0.0], [0.0, 6.0], [3.5, 0.0], [2.0, 0.0]])
    chosen = sampler.select(
        1, torch.arange(4), student_logits=student, teacher_logits=teacher, reference_logits=reference
    )
    assert chosen.tolist() == [0, 3]
    assert int(knowledge_scores(student, teacher).argmax()) == 1


@pytest.mark.parametrize("rate", [0.3, 0.4, 1.0])
def test_a_full_fetched_batch_gives_a_full_batch_to_train_on(rate: float) -> None:
    sampler: Any = SAMPLERS.build(SAMPLERS.checked(part_of(Path("x"), rate=rate)), SamplerContext(100, 16, 4, seed=1))
    plan = sampler.plan(1)
    assert plan.selects and plan.batch_size == math.ceil(16 / rate) and plan.rate == rate
    logits = torch.randn(plan.batch_size, 10)
    given = {"student_logits": logits, "teacher_logits": logits + 1, "reference_logits": 2 * logits}
    assert len(sampler.select(1, torch.arange(plan.batch_size), **given)) == 16
    assert len(sampler.select(1, torch.arange(5), **{key: value[:5] for key, value in given.items()})) == math.ceil(
        5 * rate
    )


def test_forward_passes_of_student_and_reference_are_charged(
    folder: Path, finished: Finished, calibration: Calibration
) -> None:
    training, rows = finished(sampler=part_of(folder, rate=0.5), epochs=2)
    # Batches of 32, 32 and 36: three times 16 of 32, and 2 of 4.
    assert training.clock.samples(Work.SCORE) == rows[-1].samples_scored == 2 * 2 * 100
    assert rows[-1].teacher_forwards == 200 and rows[-1].samples_trained == 2 * 50
    kinds = (Work.EPOCH, Work.AUGMENT, Work.TEACHER, Work.SCORE, Work.STEP)
    charged = {(work, size): count for (work, size), count in training.clock.counts.items() if work is not Work.ASKED}
    assert {work for work, _ in charged} == set(kinds)
    by_hand = sum(count * calibration.price(work, size) for (work, size), count in charged.items())
    assert rows[-1].cost_ref_s == pytest.approx(by_hand)
    flops = training.flops
    assert rows[-1].flops == pytest.approx(400 * flops.score + 100 * flops.step + 200 * flops.teacher)


def test_reference_is_the_kept_student_in_eval_mode_and_stays_as_it_is(
    folder: Path, trial_of: Callable[..., Trial], calibration: Calibration
) -> None:
    training = Training(trial_of(sampler=part_of(folder), epochs=2), Surroundings(calibration))
    distiller = training.distiller
    kept = kdas.load_student(folder)
    (indices, images), *_ = distiller.splits.training_batches([torch.arange(20)], Draw(seed=1, epoch=1))
    batch = distiller.batch(indices, images)
    with torch.no_grad():
        expected = kept.model(images)
    assert torch.equal(distiller.reference_logits(batch), expected)
    list(training.rows())
    assert torch.equal(distiller.reference_logits(batch), expected)
    assert not torch.equal(distiller.scoring_logits(batch, 1), expected)


def test_trial_is_named_by_the_weights_of_its_reference_and_not_by_their_path(
    folder: Path, trial_of: Callable[..., Trial], tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    with seeding.global_draws(5, "another reference"):
        torch.save(models.create("resnet8", 10).state_dict(), tmp_path / "other.pth")
    paths = (folder, tmp_path / "copy", tmp_path / "copy" / "model.safetensors", tmp_path / "other.pth")
    ids = [trial_of(sampler=part_of(path)).config_id for path in paths]
    assert ids[0] == ids[1] == ids[2] != ids[3]
    assert trial_of(sampler=part_of(folder, rate=0.3)).config_id != ids[0]


def test_reference_is_found_beside_the_file_that_names_it(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "kept")
    file = tmp_path / "trial.yaml"
    text = "dataset: digits\nteacher: {model: resnet8}\nstudent: resnet8\nsampler: "
    for sampler in ("{name: reference_gap, reference: kept}", "{REFERENCE_GAP: {REFERENCE: kept}}"):
        file.write_text(text + sampler, encoding="utf-8")
        config = load_trial_config(file)
        assert config.sampler["reference"] == str(tmp_path / "kept")
        assert reference_id(config, 10)


def test_reference_is_required(trial_of: Callable[..., Trial]) -> None:
    with pytest.raises(ValueError, match=r"sampler\.reference"):
        trial_of(sampler="reference_gap")


@pytest.mark.parametrize(
    ("weights_of", "said"),
    [
        (None, r"^sampler\.reference: .*: no such checkpoint"),
        ("resnet14", r"^sampler\.reference: .*expected a checkpoint of resnet8, got one of resnet14"),
    ],
)
def test_reference_that_is_no_such_student_is_refused_before_anything_is_computed(
    trial_of: Callable[..., Trial], tmp_path: Path, weights_of: str | None, said: str
) -> None:
    path = tmp_path / "weights.pth"
    if weights_of:
        torch.save(models.create(weights_of, 10).state_dict(), path)
    with pytest.raises(UserError, match=said):
        check_own_parts(trial_of(sampler=part_of(path)).config)


def test_reference_from_the_network_is_refused(trial_of: Callable[..., Trial]) -> None:
    with pytest.raises(ValueError, match=r"expected a file on this machine, got 'https://"):
        trial_of(sampler={"name": "reference_gap", "reference": "https://x.org/y.pth"})


def test_sampler_of_ones_own_that_names_no_network_is_refused(trial_of: Callable[..., Trial]) -> None:
    SAMPLERS.register("nameless", source="a test", needs=["reference_logits"])(lambda context: None)
    with pytest.raises(
        UserError, match=r"^sampler nameless: needs reference_logits, but no parameter names .*: reference"
    ):
        check_own_parts(trial_of(sampler="nameless").config)
