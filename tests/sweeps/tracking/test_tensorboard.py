"""TensorBoard's event files, read as TensorBoard does."""

from __future__ import annotations

import struct
from collections import Counter
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from kdas.records import Measure, Status
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.tracking.tensorboard import FOLDER, TensorBoard
from tests.sweeps.conftest import curve_row, train_on_paper


@pytest.fixture
def jobs(spec: SweepSpec, directory: SweepDirectory) -> list[Job]:
    measure = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", (1, 2), 10)
    write_measure(directory, measure)
    return plan_of(spec).baselines


def folder_of(directory: SweepDirectory, job: Job) -> Path:
    return directory.path / FOLDER / job.method / job.trial_id


def scalars(folder: Path) -> Counter[tuple[str, int, float]]:
    """How often the event files of a folder hold each value: tag, step and value."""
    found: Counter[tuple[str, int, float]] = Counter()
    for file in folder.glob("events.out.tfevents.*"):
        content = file.read_bytes()
        while content:
            # A record: its length, a checksum of it, the event, a checksum of that.
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            values = [value for value in event.summary.value if value.HasField("simple_value")]
            found.update((value.tag, event.step, round(value.simple_value, 5)) for value in values)
            content = content[16 + length :]
    return found


def accuracies(folder: Path) -> list[tuple[int, float]]:
    """Steps and validation accuracies, each as often as it was written."""
    found = scalars(folder).elements()
    return sorted((step, value) for tag, step, value in found if tag == "val_accuracy")


def test_each_evaluation_is_written_once_over_steps_and_over_reference_time(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    trial, folder = directory.trial(jobs[0].trial_id), folder_of(directory, jobs[0])
    trial.begin(jobs[0])
    trial.append(curve_row(jobs[0], 1, 0.5), [])
    board = TensorBoard(directory)
    board.update()
    board.update()
    assert accuracies(folder) == [(1, 0.5)]
    trial.append(curve_row(jobs[0], 2, 0.9), [])
    board.update()
    board.leave()
    assert accuracies(folder) == [(1, 0.5), (2, 0.9)]
    assert scalars(folder)["over_ref_ms/val_accuracy", 2000, 0.9] == 1


def test_a_restart_writes_an_incomplete_trial_anew_and_leaves_a_complete_one(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    trial = directory.trial(jobs[1].trial_id)
    trial.begin(jobs[1])
    trial.append(curve_row(jobs[1], 1, 0.5), [])
    board = TensorBoard(directory)
    board.update()
    board.leave()
    complete, incomplete = (folder_of(directory, job) for job in jobs[:2])
    before = {file: file.read_bytes() for file in complete.iterdir()}
    trial.append(curve_row(jobs[1], 2, 0.6), [])
    trial.end(Status.BUDGET)
    for _ in range(2):
        assert str(directory.path / FOLDER) in TensorBoard(directory).sync()
    assert {file: file.read_bytes() for file in complete.iterdir()} == before
    assert accuracies(incomplete) == [(1, 0.5), (2, 0.6)]


def test_a_trial_that_is_trained_again_replaces_its_curve(directory: SweepDirectory, jobs: list[Job]) -> None:
    train_on_paper(directory, jobs[0], [0.5], Status.CAPPED)
    board = TensorBoard(directory)
    board.update()
    directory.trial(jobs[0].trial_id).replace_rows([])
    train_on_paper(directory, jobs[0], [0.6, 0.9])
    board.sync()
    assert accuracies(folder_of(directory, jobs[0])) == [(1, 0.6), (2, 0.9)]


def test_a_miss_counts_as_the_whole_budget(directory: SweepDirectory, jobs: list[Job]) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    train_on_paper(directory, jobs[1], [0.5])
    TensorBoard(directory).sync()
    times = [scalars(folder_of(directory, job)) for job in jobs[:2]]
    assert [value for each in times for tag, _, value in each if tag == "tta_or_budget_ref_s"] == [2.0, 10.0]


def test_a_damaged_trial_keeps_no_other_from_being_written(directory: SweepDirectory, jobs: list[Job]) -> None:
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5])
    curve = directory.trial(jobs[0].trial_id).path / "curve.jsonl"
    curve.write_bytes(curve.read_bytes().replace(b"0.5", b"0.7", 1))
    TensorBoard(directory).sync()
    assert accuracies(folder_of(directory, jobs[1])) == [(1, 0.5)]
