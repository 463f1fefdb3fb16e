"""Trials of earlier versions, which recorded no extent: a curve that ends too early is noticed all the same."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from kdas.files.record import write_record
from kdas.records import Status
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.earlier import reaches_its_end
from tests.sweeps.conftest import curve_row, identify_by, train_on_paper


@pytest.mark.parametrize(
    ("last", "status", "expected"),
    [
        ({"epoch": 3}, Status.BUDGET, True),
        ({"epoch": 2, "cost_ref_s": 10.0}, Status.BUDGET, True),
        ({"epoch": 2, "cost_ref_s": 9.9}, Status.BUDGET, False),
        ({"epoch": 1, "train_loss": math.nan}, Status.DIVERGED, True),
        ({"epoch": 1, "train_loss": 2.0}, Status.DIVERGED, False),
    ],
)
def test_complete_trial_has_come_to_its_end(
    last: dict[str, float], status: Status, expected: bool, spec: SweepSpec, inputs: Inputs, tmp_path: Path
) -> None:
    write_record(tmp_path / "measure.json", {"tau_ref_s": 10.0})
    job = plan_of(spec, identify_by(inputs)).baselines[0]
    rows = [curve_row(job, 1, 0.1), replace(curve_row(job, 2, 0.2), **last)]
    folder = tmp_path / "trials" / "ab" / "abc-s1"
    assert reaches_its_end(rows, status, {"epochs": 3}, folder) is expected
    assert not reaches_its_end([], status, {"epochs": 3}, folder)


def test_shortened_curve_is_damage(directory: SweepDirectory, spec: SweepSpec, inputs: Inputs) -> None:
    write_record(directory.measure_file, {"tau_ref_s": 10.0})
    job = plan_of(spec, identify_by(inputs)).baselines[0]
    train_on_paper(directory, job, [0.1, 0.2, 0.3])
    folder = directory.trial(job.trial_id)
    for file in ("status.json", "status.copy.json"):
        (folder.path / file).write_text('{"status": "budget", "error": ""}')
    assert folder.damage() is None
    folder.replace_rows(folder.rows()[:2])
    damage = folder.damage()
    assert damage is not None and damage.reason == "ends before the trial had ended"


def test_curve_with_other_lines_than_its_trial_wrote_is_damage(
    directory: SweepDirectory, spec: SweepSpec, inputs: Inputs
) -> None:
    job = plan_of(spec, identify_by(inputs)).baselines[0]
    train_on_paper(directory, job, [0.1, 0.2, 0.3])
    folder = directory.trial(job.trial_id)
    rows = folder.rows()
    for kept, reason in (
        (rows[:2], "had 3 lines when the trial ended, and has 2 now"),
        ([*rows[:2], replace(rows[2], recorded_at=1.0)], "has changed since the trial ended"),
    ):
        folder.replace_rows(kept)
        damage = folder.damage()
        assert damage is not None and damage.reason == reason
