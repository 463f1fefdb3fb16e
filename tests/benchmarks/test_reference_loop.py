"""The reference trainer does the same work as ours: as many samples, the same images, the same schedule."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.bench import Bench, evaluations_for, run
from benchmarks.reference_images import image_sets
from benchmarks.reference_loop import ReferenceTraining
from kdas import schedules
from kdas.training.trial import Trial

# 120 images at rates from 0.6 to 0.4 make scoring batches of 27 to 40, and tails smaller than a batch of 16.
EPOCHS, PERIODS = 6, (1, 3)
KDAS = {"name": "kdas", "sampling_period": PERIODS}


def trial(bench: Bench, sampler: Any, **further: Any) -> Trial:
    content = {"batch_size": 16, "optimizer": {"learning_rate": 0.02}, "epochs": EPOCHS, **further}
    return bench.trial("resnet8", "resnet8", 120, 40, sampler=sampler, **content)


def reference(trial: Trial, num_workers: int = 0) -> ReferenceTraining:
    return ReferenceTraining(trial.config, trial.inputs, num_workers)


def test_epochs_that_sample_are_those_of_the_schedule(bench: Bench) -> None:
    epochs = list(reference(trial(bench, KDAS)).epochs())
    wanted = [schedules.is_sampling_epoch(epoch, EPOCHS, PERIODS) for epoch in range(1, EPOCHS + 1)]
    assert [each.is_sampling for each in epochs] == wanted == [True, True, True, True, False, False]
    assert [each.samples_scored for each in epochs] == [120 * sampled for sampled in wanted]


@pytest.mark.parametrize("sampler", ["full", KDAS], ids=["full", "kdas"])
def test_as_many_samples_are_scored_and_trained_on_as_by_ours(bench: Bench, sampler: object) -> None:
    ours = run(trial(bench, sampler)).rows[-1]
    epochs = list(reference(trial(bench, sampler)).epochs())
    assert sum(each.samples_trained for each in epochs) == ours.samples_trained
    assert sum(each.samples_scored for each in epochs) == ours.samples_scored


def test_epoch_that_does_not_sample_trains_on_what_the_last_sampling_epoch_chose(bench: Bench) -> None:
    training = reference(trial(bench, KDAS))
    epochs = list(training.epochs())
    remembered = {int(index) for _, _, indices in training.subset_loader for index in indices}
    assert epochs[3].is_sampling and not epochs[4].is_sampling
    assert len(remembered) == epochs[3].samples_trained == epochs[4].samples_trained < 120


def test_student_learns_and_the_teacher_does_not(bench: Bench) -> None:
    training = reference(trial(bench, "full", ce_weight=1.0, kd_weight=0.0, epochs=8))
    before = {name: tensor.clone() for name, tensor in training.teacher.state_dict().items()}
    epochs = list(training.epochs())
    assert epochs[-1].train_loss < 0.8 * epochs[0].train_loss
    assert epochs[-1].test_accuracy > 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in training.teacher.state_dict().items())


def test_test_images_are_those_that_ours_is_evaluated_on(bench: Bench) -> None:
    inputs = trial(bench, "full").inputs
    _, test_set = image_sets(inputs)
    batches = list(inputs.splits.evaluation_batches(inputs.splits.test))
    torch.testing.assert_close(
        torch.stack([image for image, _, _ in test_set]), torch.cat([images for _, (images,) in batches])
    )
    assert test_set.labels == torch.cat([labels for labels, _ in batches]).tolist()


def test_training_images_are_views_that_ours_could_have_drawn(bench: Bench) -> None:
    inputs = trial(bench, "full").inputs
    train_set, _ = image_sets(inputs)
    image, _, index = train_set[5]
    splits = inputs.splits
    number = splits.views.num_views  # type: ignore[union-attr]
    every_view = splits.views.apply(splits.train.images[[index]].expand(number, -1, -1, -1), torch.arange(number))  # type: ignore[attr-defined, union-attr]
    distances = (splits.normalized(every_view) - image).abs().amax(dim=(1, 2, 3))
    assert float(distances.min()) < 1e-5


# DataLoader forks its workers, and Python 3.12 and later warn about forking a process with several threads.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_worker_processes_change_no_count(bench: Bench) -> None:
    short = trial(bench, KDAS, epochs=4)
    alone, with_workers = list(reference(short).epochs()), list(reference(short, num_workers=2).epochs())
    assert [each.samples_trained for each in with_workers] == [each.samples_trained for each in alone]
    assert {each.is_sampling for each in alone} == {True, False}


def test_ours_is_evaluated_as_often_as_asked(bench: Bench) -> None:
    once = run(trial(bench, KDAS))
    assert len(once.rows) == 1
    often = run(trial(bench, KDAS, evaluations=evaluations_for(EPOCHS, once)))
    assert len(often.rows) == EPOCHS
