"""The measure of a sweep, and the times and accuracies that rows give."""

from __future__ import annotations

import math

import pytest

from kdas.records import Measure
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import best_accuracy, read_measure, time_to_target, write_measure
from sweeps.record.trial import Recorded
from tests.sweeps.conftest import curve_row


@pytest.fixture
def job(spec: SweepSpec) -> Job:
    return plan_of(spec).baselines[0]


def rows_of(job: Job, accuracies: list[float]) -> list[Recorded]:
    return [Recorded(curve_row(job, number, each), [], 0.0) for number, each in enumerate(accuracies, start=1)]


def test_time_is_that_of_the_first_row_that_reaches_the_target(job: Job) -> None:
    rows = rows_of(job, [0.5, 0.8, 0.7, 0.9])
    assert time_to_target(rows, 0.8) == 2.0
    assert time_to_target(rows, 0.95) == math.inf and time_to_target([], 0.1) == math.inf


def test_best_accuracy_leaves_out_rows_that_have_none(job: Job) -> None:
    assert best_accuracy(rows_of(job, [0.5, math.nan, 0.6, 0.4])) == 0.6
    assert math.isnan(best_accuracy(rows_of(job, [math.nan]))) and math.isnan(best_accuracy([]))


def test_measure_comes_back_as_it_was_written(directory: SweepDirectory) -> None:
    assert read_measure(directory) is None
    measure = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "test", "by-hand", "digits", (1, 2), 10, ("a", "b"))
    write_measure(directory, measure)
    assert read_measure(directory) == measure
