"""The tables of a sweep, rebuilt from its directory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdas.clock import Work
from kdas.files.prices import calibration_of, write_calibration
from kdas.records import CURVE_COLUMNS, PICKS_COLUMNS, TRIAL_COLUMNS, WITHOUT_TEACHER, Measure, PicksWindow, Status
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.tables import picks_schema, write_tables
from tests.sweeps.conftest import CALIBRATION, identify_by, train_on_paper
from tests.sweeps.record.conftest import WINDOWS


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs) -> list[Job]:
    return plan_of(spec, identify_by(inputs)).baselines


def test_tables_hold_every_trial_with_the_status_that_censoring_goes_by(
    directory: SweepDirectory, spec: SweepSpec, inputs: Inputs
) -> None:
    jobs = [
        *plan_of(spec, identify_by(inputs)).baselines,
        *plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.5, "sampling_period": [3]}),
    ]
    train_on_paper(directory, jobs[0], [0.5, 0.8, 0.9])
    train_on_paper(directory, jobs[1], [0.5, 0.6])
    train_on_paper(directory, jobs[2], [0.5], Status.CRASHED)
    train_on_paper(directory, jobs[6], [0.8, float("nan")], Status.DIVERGED)
    measure = Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "by-hand", "digits", [1, 2], 10)
    write_measure(directory, measure)
    assert write_tables(directory) == 4
    trials = {row["trial_id"]: row for row in pq.read_table(directory.path / "trials.parquet").to_pylist()}
    assert trials[jobs[0].trial_id]["status"] == "reached"
    assert trials[jobs[0].trial_id]["tta_ref_s"] == 2.0
    assert trials[jobs[1].trial_id]["status"] == "budget"
    assert trials[jobs[1].trial_id]["tta_ref_s"] == float("inf")
    assert trials[jobs[2].trial_id]["error"] == "ValueError: as told"
    diverged = trials[jobs[6].trial_id]
    assert (diverged["status"], diverged["tta_ref_s"]) == ("diverged", 1.0)
    assert diverged["configuration"] == "start_rate 0.5 · sampling_period 3"
    assert (diverged["sampler.start_rate"], diverged["sampler.sampling_period"]) == (0.5, "[3]")
    curves = pq.read_table(directory.path / "curves.parquet")
    assert tuple(curves.column_names) == (*CURVE_COLUMNS, WITHOUT_TEACHER)
    assert curves.num_rows == 8


def test_costs_at_the_prices_of_each_round_are_those_of_the_hit_or_of_the_end(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9, 0.95])
    train_on_paper(directory, jobs[1], [0.5, 0.6, 0.7])
    train_on_paper(directory, jobs[2], [])
    scoring = {Work.SCORE: ((64, 1.0),)}
    rounds = tuple({**scoring, Work.STEP: ((64, seconds),)} for seconds in (1.0, 0.9, 1.2))
    calibration = calibration_of({}, rounds[0], rounds)
    write_calibration(directory.calibration_file, calibration)
    for job in jobs[:2]:
        folder = directory.trial(job.trial_id)
        rows = [
            replace(
                each,
                row=replace(each.row, calibration_id=calibration.calibration_id, cost_ref_s=1.0 + each.row.step),
                ledger=[["step", 64, 1], ["score", 64, each.row.step]],
            )
            for each in folder.rows()
        ]
        folder.replace_rows(rows)
        folder.end(Status.BUDGET)
    write_measure(directory, Measure("tiny", 0.8, "by hand", 10.0, "plain_kd", "validation", "x", "digits", (1, 2), 10))
    write_tables(directory)
    trials = {row["trial_id"]: row for row in pq.read_table(directory.path / "trials.parquet").to_pylist()}
    for job, num_scored in ((jobs[0], 2), (jobs[1], 3)):
        found = [trials[job.trial_id][f"price_round_{number}"] for number in (1, 2, 3)]
        assert found == pytest.approx([(step_s + num_scored) / (1 + num_scored) for step_s in (1.0, 0.9, 1.2)])
    assert trials[jobs[2].trial_id]["price_round_1"] is None
    assert "price_round_4" not in trials[jobs[0].trial_id]


def test_costs_with_a_cached_teacher_leave_out_its_passes_alone(directory: SweepDirectory, jobs: list[Job]) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    prices = {Work.STEP: ((64, 1.0),), Work.TEACHER: ((64, 0.25),)}
    calibration = calibration_of({}, prices)
    write_calibration(directory.calibration_file, calibration)
    folder = directory.trial(jobs[0].trial_id)
    first, second = folder.rows()
    ledger = [["step", 64, 3], ["teacher", 64, 8], ["asked", 64, 2]]
    known = replace(first, row=replace(first.row, calibration_id=calibration.calibration_id), ledger=ledger)
    folder.replace_rows([known, second])
    folder.end(Status.BUDGET)
    write_tables(directory)
    found = pq.read_table(directory.path / "curves.parquet")["cost_without_teacher_s"].to_pylist()
    assert found == [3.0, None]  # the second was charged by prices that the sweep does not have


def test_prices_without_rounds_give_no_columns_of_rounds(directory: SweepDirectory, jobs: list[Job]) -> None:
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    write_calibration(directory.calibration_file, calibration_of({}, CALIBRATION.prices))
    write_tables(directory)
    names = pq.read_table(directory.path / "trials.parquet").column_names
    assert not [name for name in names if name.startswith("price_round")]


def table_of(directory: SweepDirectory) -> pa.Table:
    write_tables(directory)
    return pq.read_table(directory.path / "picks.parquet")


def test_table_holds_a_row_for_each_window_of_each_trial(directory: SweepDirectory, jobs: list[Job]) -> None:
    for job, windows in zip(jobs[:3], (WINDOWS, [], WINDOWS[:2]), strict=True):
        train_on_paper(directory, job, [0.1], windows=windows)
    with (directory.trial(jobs[2].trial_id).path / "picks.jsonl").open("a") as file:
        file.write('{"epoch": 3, "by_cl')
    table = table_of(directory)
    assert table.schema.equals(picks_schema()) and tuple(table.column_names) == PICKS_COLUMNS

    def expected(job: Job, window: PicksWindow) -> dict[str, Any]:
        of_the_trial = {"trial_id": job.trial_id, "config_id": job.config_id, "seed": job.config.seed}
        return {"sweep": "tiny", "method": job.method, "phase": job.phase, **of_the_trial, **window.as_dict()}

    rows = [expected(jobs[0], window) for window in WINDOWS] + [expected(jobs[2], window) for window in WINDOWS[:2]]
    assert sorted(table.to_pylist(), key=str) == sorted(rows, key=str)


def test_table_without_any_window_has_the_same_columns(directory: SweepDirectory, jobs: list[Job]) -> None:
    assert table_of(directory).schema.equals(picks_schema())
    train_on_paper(directory, jobs[0], [0.1])
    table = table_of(directory)
    assert table.schema.equals(picks_schema()) and table.num_rows == 0


def test_every_trial_has_the_agreed_columns_whether_or_not_it_has_rows(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    train_on_paper(directory, jobs[2], [0.5])
    write_tables(directory)
    table = pq.read_table(directory.path / "trials.parquet")
    assert set(TRIAL_COLUMNS) <= set(table.column_names)
    assert all(table.column(name).null_count == 0 for name in TRIAL_COLUMNS)


def test_settings_in_which_trials_differ_have_columns_and_those_they_share_have_none(
    directory: SweepDirectory, spec: SweepSpec, inputs: Inputs
) -> None:
    for epochs in (3, 4):
        longer = spec.model_copy(update={"epochs": epochs})
        train_on_paper(directory, plan_of(longer, identify_by(inputs)).baselines[0], [0.5])
    write_tables(directory)
    table = pq.read_table(directory.path / "trials.parquet")
    assert sorted(table.column("epochs").to_pylist()) == [3, 4]
    assert not {"batch_size", "optimizer.learning_rate"} & set(table.column_names)


def test_tables_of_a_sweep_with_cells_hold_the_trials_of_all_of_them(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    for cell, job in zip("ab", jobs, strict=False):
        train_on_paper(directory.cell(cell), job, [0.5])
    assert write_tables(directory) == 2
    table = pq.read_table(directory.path / "trials.parquet")
    assert table.column("sweep").to_pylist() == ["tiny/a", "tiny/b"]
