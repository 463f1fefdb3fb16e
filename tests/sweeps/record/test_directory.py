from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kdas.clock import Calibration, Work
from kdas.errors import UserError
from kdas.files.journal import Extent
from kdas.records import Status
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.status import read_status
from sweeps.record.tables import write_tables
from sweeps.record.trial import Rebuilds
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


def test_resuming_from_a_checkpoint_drops_the_rows_after_it(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.1, 0.2, 0.3])
    folder = directory.trial(job.trial_id)
    folder.keep_rows_up_to(2)
    assert [r.row.step for r in folder.rows()] == [1, 2]


def test_a_restarted_trial_has_forgotten_its_crash(directory: SweepDirectory, job: Job) -> None:
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
    # Steps cost 3, and the epochs that the trial had begun 1 each: its ledger did not count them yet.
    dearer = Calibration("dearer", {}, {Work.STEP: ((64, 3.0),), Work.EPOCH: ((64, 1.0), (128, 1.0))})
    assert directory.adopt(job, dearer)
    rows = [r.row for r in directory.trial(job.trial_id).rows()]
    assert [row.cost_ref_s for row in rows] == [4.0, 8.0]
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


def test_a_start_that_is_refused_leaves_no_folder_unless_it_has_written_something(tmp_path: Path) -> None:
    def start(directory: SweepDirectory, *files: Path) -> None:
        with directory.locked():
            assert directory.holder()
            for file in files:
                file.write_text("{}")
            raise UserError("refused")

    for directory in (SweepDirectory(tmp_path / "new"), SweepDirectory(tmp_path / "grid").cell("small")):
        with pytest.raises(UserError, match="refused"):
            start(directory)
        assert not directory.path.exists()
    assert not (tmp_path / "grid" / "cells").exists()
    kept = SweepDirectory(tmp_path / "kept")
    with pytest.raises(UserError, match="refused"):
        start(kept, kept.control_file)
    assert kept.control_file.exists()
    with kept.locked():
        assert kept.holder()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError, match=r"file/sweep: cannot be written to: .* Give a folder that you may write to"):
        SweepDirectory(in_the_way / "sweep").locked().__enter__()


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


def test_a_trial_that_is_damaged_while_it_is_rebuilt_still_ends_as_it_had_ended(
    directory: SweepDirectory, job: Job
) -> None:
    train_on_paper(directory, job, [0.1, 0.2, 0.3], Status.CAPPED)
    folder = directory.trial(job.trial_id)
    curve = folder.path / "curve.jsonl"
    for _ in range(2):
        curve.write_bytes(curve.read_bytes().partition(b"\n")[2])
        folder.restore(job)
        assert folder.rebuilds == Rebuilds(3, "capped")
        assert folder.rows() == []
        folder.begin(job)
        for step in (1, 2):
            directory.trial(job.trial_id).append(curve_row(job, step, 0.1), [])


def test_a_kill_while_a_damaged_trial_is_reopened_loses_nothing(
    directory: SweepDirectory, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the last file operation was, the next start still knows how the trial had ended."""
    train_on_paper(directory, job, [0.1, 0.2, 0.3], Status.CAPPED)
    folder = directory.trial(job.trial_id)
    (folder.path / "curve.jsonl").write_bytes(b"")
    kept = {path.name: path.read_bytes() for path in folder.path.iterdir()}
    operations = {name: getattr(Path, name) for name in ("unlink", "replace")}

    def killed_after(num_operations: int) -> bool:
        """Reopen the trial, killed before this many files have changed. Returns: whether that was in time."""
        for path in folder.path.iterdir():
            operations["unlink"](path)
        for name, content in kept.items():
            (folder.path / name).write_bytes(content)
        left = itertools.count(num_operations, -1)

        def stop(name: str) -> Callable[..., object]:
            def or_do(path: Path, *arguments: object, **named: object) -> object:
                if next(left) <= 0:
                    raise KeyboardInterrupt
                return operations[name](path, *arguments, **named)

            return or_do

        with monkeypatch.context() as patch:
            for name in operations:
                patch.setattr(Path, name, stop(name))
            try:
                folder.restore(job)
            except KeyboardInterrupt:
                return True
        return False

    num_kills = 0
    while killed_after(num_kills):
        num_kills += 1
        folder.restore(job)
        assert folder.rebuilds == Rebuilds(3, "capped"), f"killed before operation {num_kills}"
    assert num_kills >= 3
    assert folder.rebuilds == Rebuilds(3, "capped")


def test_status_and_its_copy_are_on_the_disk_before_a_trial_has_ended(
    directory: SweepDirectory, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_paper(directory, job, [0.1], Status.RUNNING)
    folder = directory.trial(job.trial_id)
    synced: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda handle: synced.add(os.fstat(handle).st_ino))
    folder.end(Status.BUDGET)
    files = [folder.path / "status.json", folder.path / "status.copy.json"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert synced >= {path.stat().st_ino for path in (*files, folder.path)}


def test_files_of_other_programs_among_the_trials_are_passed_over(directory: SweepDirectory, job: Job) -> None:
    train_on_paper(directory, job, [0.5])
    folder = directory.trial(job.trial_id).path
    for stray in (folder.parent.parent, folder.parent, folder):
        (stray / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder.parent.parent / "zz" / "empty").mkdir(parents=True)
    assert [trial.path for trial in directory.trials()] == [folder]
    assert read_status(directory).damages == []
    write_tables(directory)
    assert len(pd.read_parquet(directory.path / "trials.parquet")) == 1


def test_a_trial_that_begins_again_while_it_is_read_is_not_damaged(
    directory: SweepDirectory, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_on_paper(directory, job, [0.1, 0.2], Status.CAPPED)
    reader, worker = directory.trial(job.trial_id), directory.trial(job.trial_id)
    extent = reader._curve.extent

    def begun_meanwhile() -> Extent:
        monkeypatch.setattr(reader._curve, "extent", extent)
        worker.begin(job)
        worker.keep_rows_up_to(0)
        return extent()

    monkeypatch.setattr(reader._curve, "extent", begun_meanwhile)
    assert reader.damage() is None


@pytest.mark.parametrize("lacking", ["open", "replace"])
def test_a_file_system_that_cannot_hold_a_record_is_refused_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    real = getattr(Path, lacking)

    def refuse(path: Path, *words: Any, **named: Any) -> Any:
        if path.parent == tmp_path / "sweep" and (lacking == "replace" or "a" in words):
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
        return real(path, *words, **named)

    monkeypatch.setattr(Path, lacking, refuse)
    expected = r"sweep: this file system cannot append to files or replace them \(.+\)\. Set RUNS_DIR to a folder on"
    with pytest.raises(UserError, match=expected):
        SweepDirectory(tmp_path / "sweep").locked().__enter__()
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == {".lock"}
