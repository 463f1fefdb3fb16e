"""The figures of the benchmarks, computed from records written by hand; nothing is timed here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks import analysis_speed, first_trial
from benchmarks.orchestration import phase_of, sweep_of
from kdas.records import CurveRow, Status
from sweeps.record.directory import SweepDirectory
from sweeps.record.trial import Recorded


def record(directory: SweepDirectory, trial_id: str, recorded_at: float, ended: float, wall_s: float) -> None:
    """Write a trial with one row, recorded and ended at these times: `wall_s` of training, 0.5 s of evaluation."""
    folder = directory.trial(trial_id)
    folder.path.mkdir(parents=True)
    (folder.path / "trial.json").write_text(json.dumps({}))
    texts = dict.fromkeys(("trial_id", "config_id", "dataset", "pair", "calibration_id", "device"), "x")
    numbers = dict.fromkeys(set(CurveRow.__dataclass_fields__) - set(texts), 1.0)
    row = CurveRow(**{**texts, **numbers, "wall_s": wall_s, "eval_s": 0.5})  # type: ignore[arg-type]
    folder.replace_rows([Recorded(row, [], recorded_at)])
    folder.end(Status.BUDGET)
    os.utime(folder.path / "status.json", (ended, ended))


def test_orchestration_is_what_the_trials_phase_takes_beside_training_on_two_slots(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path / "sweep")
    record(directory, "a", recorded_at=100.0, ended=103.0, wall_s=3.5)
    record(directory, "b", recorded_at=102.0, ended=110.0, wall_s=5.5)
    phase = phase_of(directory)
    assert (phase.num_trials, phase.wall_s, phase.compute_s) == (2, pytest.approx(10.0), pytest.approx(10.0))
    assert phase.orchestration_s_per_trial == pytest.approx(2.5)


def test_the_first_step_is_what_comes_before_the_first_training_and_evaluation(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path / "sweep")
    assert first_trial.first_step_at(directory) is None
    record(directory, "a", recorded_at=100.0, ended=103.0, wall_s=3.5)
    record(directory, "b", recorded_at=102.0, ended=110.0, wall_s=6.5)
    assert first_trial.first_step_at(directory) == pytest.approx(95.0)


def test_a_number_of_trials_that_no_sweep_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"num_trials: expected a multiple of 5, at least 10, got 12"):
        sweep_of(12, tmp_path)


def test_both_sides_of_the_comparison_come_to_the_same_times(tmp_path: Path) -> None:
    curves = analysis_speed.made_up_curves(num_runs=10, num_points=12)
    analysis_speed.write_sweep(tmp_path / "sweep", curves)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ours = analysis_speed.times_of_ours(tmp_path / "sweep")
    assert ours == analysis_speed.times_of_client(uri, analysis_speed.write_mlflow(uri, curves))
    table = analysis_speed.trial_table(tmp_path / "sweep").set_index("trial_id")
    assert ours == table["tta_ref_s"].to_dict()
    assert set(table["reached"]) == {True, False}
