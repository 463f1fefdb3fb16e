"""Counts of what a trial trained on: every sample of every batch, in a few windows, and the same after a restart."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.records import CONFIDENCE_EDGES, CurveRow, PicksWindow, Status
from kdas.samplers import SAMPLERS
from kdas.training.batch import Answer, Batch
from kdas.training.picks import MAX_WINDOWS, Picks, window_ends
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

Finished = Callable[..., tuple[Training, list[CurveRow]]]
TrialOf = Callable[..., Trial]
KDAS = {"name": "kdas", "sampling_period": [4]}


def logits_of(confidence: list[float]) -> torch.Tensor:
    """Logits [B, 2] of a teacher with these confidences in the first class."""
    first = torch.tensor(confidence)
    return torch.stack([first, 1 - first], dim=1).log()


def counted(confidence: list[float]) -> list[int]:
    picks = Picks(num_classes=2, epochs=1)
    picks.observe(torch.zeros(len(confidence), dtype=torch.int64), logits_of(confidence))
    picks.end_epoch(1)
    return picks.windows[0].by_confidence


@given(st.integers(1, 1000))
def test_windows_are_few_and_even_and_end_with_the_last_epoch(epochs: int) -> None:
    ends = window_ends(epochs)
    assert len(ends) == min(MAX_WINDOWS, epochs) and ends[-1] == epochs
    widths = [end - before for before, end in pairwise([0, *ends])]
    assert min(widths) >= 1 and max(widths) - min(widths) <= 1


def test_confidence_falls_into_the_bin_between_its_edges() -> None:
    assert len(CONFIDENCE_EDGES) == 9
    assert counted([0.6, 0.75, 0.85, 0.85, 0.9995]) == [0, 0, 1, 1, 2, 0, 0, 0, 0, 1]


def test_confidence_that_equals_an_edge_counts_above_it() -> None:
    # Two equal logits give a confidence of exactly one half.
    assert counted([0.5]) == [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    assert counted([1.0]) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_answer_that_is_not_finite_counts_for_its_class_alone() -> None:
    picks = Picks(num_classes=3, epochs=1)
    picks.observe(torch.tensor([2, 0]), torch.tensor([[math.inf, 0.0, 0.0], [9.0, 0.0, 0.0]]))
    picks.end_epoch(1)
    (window,) = picks.windows
    assert window.by_class == [1, 0, 1]
    assert sum(window.by_confidence) == 1


def test_window_holds_the_epochs_since_the_one_before_and_one_without_samples_is_empty() -> None:
    picks = Picks(num_classes=2, epochs=2 * MAX_WINDOWS)
    for epoch in range(1, 5):
        if epoch < 3:
            picks.observe(torch.tensor([0, 1, 1]), logits_of([0.9999] * 3))
        picks.end_epoch(epoch)
    assert picks.windows == [PicksWindow(2, [2, 4], [*[0] * 9, 6]), PicksWindow(4, [0, 0], [0] * 10)]


def totals(training: Training) -> tuple[int, int]:
    """Number of samples counted by class and by confidence, over all windows."""
    windows = training.picks.windows
    return sum(sum(each.by_class) for each in windows), sum(sum(each.by_confidence) for each in windows)


@pytest.mark.parametrize("sampler", SAMPLERS.names())
def test_every_sample_that_is_trained_on_is_counted(
    finished: Finished, sampler_part: Callable[[str], dict[str, Any]], sampler: str
) -> None:
    training, rows = finished(sampler=sampler_part(sampler), epochs=4)
    assert totals(training) == (rows[-1].samples_trained, rows[-1].samples_trained)
    assert [window.epoch for window in training.picks.windows] == [1, 2, 3, 4]


def test_plain_distillation_counts_the_training_set_once_an_epoch(finished: Finished) -> None:
    training, _ = finished(epochs=30, evaluations=2)
    of_an_epoch = torch.bincount(training.trial.inputs.splits.train.labels, minlength=10)
    windows = training.picks.windows
    assert [window.epoch for window in windows] == [math.ceil(number * 30 / 24) for number in range(1, 25)]
    for before, window in pairwise([PicksWindow(0, [], []), *windows]):
        assert window.by_class == ((window.epoch - before.epoch) * of_an_epoch).tolist()


def test_confidence_is_that_of_the_teachers_answers(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[torch.Tensor] = []
    step = Training._train_batch

    def watched(training: Training, epoch: int, plan: Any, batch: Batch) -> None:
        assert isinstance(batch.answer, Answer)
        trained.extend(batch.answer.logits.double().softmax(dim=1).max(dim=1).values)
        step(training, epoch, plan, batch)

    monkeypatch.setattr(Training, "_train_batch", watched)
    training, _ = finished(sampler=KDAS, epochs=1)
    (window,) = training.picks.windows
    below = [sum(float(value) < edge for value in trained) for edge in CONFIDENCE_EDGES]
    assert window.by_confidence == [now - before for before, now in pairwise([0, *below, len(trained)])]


def test_trial_that_ends_within_an_epoch_closes_its_window_there(finished: Finished) -> None:
    training, rows = finished(epochs=60, evaluations=3, budget_ref_s=1.5)
    assert rows[-1].epoch < 60 and rows[-1].step % 7
    assert training.picks.windows[-1].epoch == rows[-1].epoch
    assert totals(training)[0] == rows[-1].samples_trained


def test_diverged_trial_closes_its_window_too(finished: Finished) -> None:
    training, rows = finished(optimizer={"learning_rate": 1e9}, epochs=8, evaluations=16)
    assert training.status is Status.DIVERGED
    assert training.picks.windows[-1].epoch == rows[-1].epoch
    assert totals(training)[0] == rows[-1].samples_trained


def test_windows_are_complete_when_the_last_row_is_returned(trial_of: TrialOf, calibration: Calibration) -> None:
    training = Training(trial_of(), Surroundings(calibration))
    for row in training.rows():
        if training.status is not Status.RUNNING:
            assert totals(training)[0] == row.samples_trained
            return
    pytest.fail("the trial did not end")


@pytest.mark.parametrize("sampler", ["full", KDAS], ids=["full", "kdas"])
@pytest.mark.parametrize("stopped_in", [2, 5])
def test_resumed_trial_counts_as_an_uninterrupted_one(
    trial_of: TrialOf,
    calibration: Calibration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sampler: object,
    stopped_in: int,
) -> None:
    # Windows end with epochs 3, 5 and 7, so one checkpoint is within the first window and one within the second.
    monkeypatch.setattr("kdas.training.picks.MAX_WINDOWS", 3)
    trial = trial_of(sampler=sampler, epochs=7, evaluations=21)
    whole = Training(trial, Surroundings(calibration))
    list(whole.rows())
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    next(row for row in Training(trial, kept).rows() if row.epoch >= stopped_in)
    resumed = Training(trial, kept)
    assert resumed.epoch == stopped_in - 1
    list(resumed.rows())
    assert [window.epoch for window in whole.picks.windows] == [3, 5, 7]
    assert resumed.picks.windows == whole.picks.windows


def test_checkpoint_of_an_earlier_version_is_refused(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    kept = Surroundings(calibration, checkpoint=path, checkpoint_every_s=0)
    next(row for row in Training(trial_of(), kept).rows() if row.epoch == 2)
    state = checkpoint.load(path)
    del state["picks"]
    checkpoint.save(path, state)
    with pytest.raises(UserError, match=r"trial\.pt: was written by an earlier version of this program\. Move it away"):
        Training(trial_of(), kept)
