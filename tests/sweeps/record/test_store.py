from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from kdas.clock import Calibration, Work
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.records import CURVE_COLUMNS, Measure, Status
from kdas.training.trial import Inputs, config_id
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.tables import write_tables
from tests.sweeps.conftest import CALIBRATION, curve_row, identify_by, train_on_paper


@pytest.fixture
def job(spec: SweepSpec, inputs: Inputs) -> Job:
    return plan_of(spec, identify_by(inputs)).baselines[0]


def test_rows_come_back_as_they_were_written(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.1, 0.2])
    recorded = directory.trial(job.trial_id).rows()
    assert [r.row for r in recorded] == [curve_row(job, 1, 0.1), curve_row(job, 2, 0.2)]
    assert [r.ledger for r in recorded] == [[["step", 64, 1]], [["step", 64, 2]]]


def test_a_line_cut_short_by_a_kill_is_left_out(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.1, 0.2])
    curve = directory.trial(job.trial_id).path / "curve.jsonl"
    curve.write_text(curve.read_text()[:-20])
    assert [r.row.val_accuracy for r in directory.trial(job.trial_id).rows()] == [0.1]


def test_going_on_from_a_checkpoint_drops_the_rows_behind_it(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.1, 0.2, 0.3])
    folder = directory.trial(job.trial_id)
    folder.keep_rows_up_to(2)
    assert [r.row.step for r in folder.rows()] == [1, 2]


def test_a_trial_that_begins_again_has_forgotten_its_crash(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.1], Status.CRASHED)
    folder = directory.trial(job.trial_id)
    assert folder.status is Status.CRASHED
    assert not folder.is_final
    folder.begin(job)
    assert folder.status is Status.RUNNING


def test_a_finished_trial_of_another_sweep_is_taken_over_at_this_sweeps_prices(
    directory: SweepDirectory, job: Job
) -> None:
    other = SweepDirectory(directory.path.parent / "other")
    train_on_paper(other, job, [0.1, 0.2])
    dearer = Calibration("dearer", {}, dict.fromkeys(Work, ((64, 3.0),)))
    assert directory.adopt(job, dearer)
    rows = [r.row for r in directory.trial(job.trial_id).rows()]
    assert [row.cost_ref_s for row in rows] == [3.0, 6.0]
    assert [row.val_accuracy for row in rows] == [0.1, 0.2]
    assert {row.calibration_id for row in rows} == {"dearer"}
    assert [r.row.cost_ref_s for r in other.trial(job.trial_id).rows()] == [1.0, 2.0]


@pytest.mark.parametrize("status", [Status.CRASHED, Status.RUNNING])
def test_an_unfinished_trial_is_not_taken_over(directory: SweepDirectory, job: Job, status: Status) -> None:
    train_on_paper(SweepDirectory(directory.path.parent / "other"), job, [0.1], status)
    assert not directory.adopt(job, CALIBRATION)


def test_a_second_start_of_the_same_sweep_is_refused_and_names_the_holder(directory: SweepDirectory) -> None:
    attempt = (
        "import sys; from pathlib import Path; from sweeps.record.directory import SweepDirectory;"
        "SweepDirectory(Path(sys.argv[1])).locked().__enter__()"
    )
    with directory.locked():
        done = subprocess.run(
            [sys.executable, "-c", attempt, str(directory.path)], capture_output=True, text=True, check=False
        )
    assert "is running this sweep. Wait for it or stop it." in done.stderr
    assert "process " in done.stderr.rsplit("UserError", 1)[1]
    with directory.locked():
        pass


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError, match=r"file/sweep: cannot be written to: .* Give a folder that you may write to"):
        SweepDirectory(in_the_way / "sweep").locked().__enter__()


def test_the_same_setting_has_the_same_id_wherever_its_data_lie(spec: SweepSpec, inputs: Inputs) -> None:
    first, second = plan_of(spec, identify_by(inputs)).baselines[:2]
    assert first.config_id == second.config_id
    assert (first.trial_id, second.trial_id) == (f"{first.config_id}-s1", f"{first.config_id}-s2")
    ids = {job.config_id for job in plan_of(spec, identify_by(inputs)).baselines}
    assert len(ids) == 3
    longer = spec.model_copy(update={"epochs": 4})
    assert plan_of(longer, identify_by(inputs)).baselines[0].config_id not in ids


def test_a_searched_setting_that_equals_a_baseline_is_that_baseline(spec: SweepSpec, inputs: Inputs) -> None:
    jobs = plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]})
    assert {job.method for job in jobs} == {"kdas_paper"}
    assert {job.method for job in plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.61})} == {"kdas_search"}


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
    assert tuple(curves.column_names) == CURVE_COLUMNS
    assert curves.num_rows == 8


def test_trials_that_are_left_out_are_not_looked_at(directory: SweepDirectory, spec: SweepSpec, inputs: Inputs) -> None:
    jobs = plan_of(spec, identify_by(inputs)).baselines
    for job in jobs[:3]:
        directory.trial(job.trial_id).begin(job)
    directory.trial("never-begun").path.mkdir(parents=True)
    ids = sorted(job.trial_id for job in jobs[:3])
    assert [folder.path.name for folder in directory.trials()] == ids
    assert [folder.path.name for folder in directory.trials(leaving_out={ids[1]})] == [ids[0], ids[2]]


def test_a_trial_without_rows_is_not_written_to_when_it_begins(directory: SweepDirectory, job: Job) -> None:
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    folder.keep_rows_up_to(0)
    assert [path.name for path in folder.path.iterdir()] == ["trial.json"]


def test_a_configuration_is_named_once_for_all_its_seeds(spec: SweepSpec, inputs: Inputs) -> None:
    named: list[int] = []

    def identify(config: TrialConfig) -> str:
        named.append(config.seed)
        return config_id(config, inputs)

    many = spec.model_copy(update={"seeds": [1, 2, 7, 8]})
    plan = plan_of(many, identify)
    assert {job.config.seed for job in plan.baselines} == {1, 2, 7, 8}
    assert len(named) == len(spec.baselines)
    jobs = plan.searched({"start_rate": 0.5, "sampling_period": [3]})
    assert len(named) == len(spec.baselines) + 1
    assert [job.config.seed for job in jobs] == [1, 2, 7, 8]
    assert {job.config_id for job in jobs} == {config_id(jobs[3].config, inputs)}
