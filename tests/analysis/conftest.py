"""A small sweep directory as the `sweeps` room writes it, with misses, a crash and searched configurations."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.findings.gather import Findings
from kdas.records import CURVE_COLUMNS, CurveRow, Status, first_reached

TARGET = 0.9
TAU_S = 200.0


@dataclass(frozen=True)
class PlannedTrial:
    """One made-up trial: its accuracy climbs towards `ceiling`, half the way every `half_s` reference seconds."""

    method: str
    config_id: str
    seed: int
    half_s: float
    ceiling: float = 0.96
    configuration: str = ""
    status: Status | None = None
    last_s: float = TAU_S
    phase: str = "search"
    error: str = ""
    num_cotenants: int = 0
    calibration_id: str = "cal-1"


def planned_sweep(seeds: Sequence[int] = (0, 1, 2)) -> list[PlannedTrial]:
    """Three baselines and four searched configurations; rs2 misses on one seed, one searched trial crashes."""
    trials = []
    for seed in seeds:
        wobble = 1 + 0.06 * math.sin(seed * 2.3)
        trials += [
            PlannedTrial("plain_kd", "c-plain", seed, 30 * wobble, configuration="rate 1"),
            PlannedTrial("rs2", "c-rs2", seed, 26 * wobble, 0.87 if seed == 1 else 0.95, "rate 0.5"),
            PlannedTrial("kdas_paper", "c-paper", seed, 22 * wobble, configuration="start_rate 0.6 · end_rate 0.2"),
        ]
        for index, half_s in enumerate((16.0, 20.0, 34.0, 60.0)):
            name = f"start_rate {0.3 + index / 10:.2g} · end_rate {0.1 + index / 20:.2g}"
            trials.append(PlannedTrial("kdas_search", f"c-s{index}", seed, half_s * wobble, configuration=name))
    crashed = next(index for index, trial in enumerate(trials) if trial.config_id == "c-s3")
    trials[crashed] = replace(trials[crashed], status=Status.CRASHED, last_s=60.0, error="out of memory <3 GiB>")
    return trials


def curve_of(trial: PlannedTrial, num_evaluations: int = 50) -> list[dict[str, Any]]:
    """The rows of a made-up trial, evaluated at equal cost until its end."""
    rows = []
    for index in range(1, num_evaluations + 1):
        cost_s = TAU_S * index / num_evaluations
        if cost_s > trial.last_s:
            break
        accuracy = round(trial.ceiling * (1 - 0.5 ** (cost_s / trial.half_s)), 6)
        row = CurveRow(
            trial_id=f"{trial.config_id}-{trial.seed}", config_id=trial.config_id, dataset="digits", pair="wide_narrow",
            seed=trial.seed, epoch=index, step=index * 10, samples_trained=index * 640, samples_scored=index * 64,
            teacher_forwards=index * 640, flops=index * 1e9, cost_ref_s=cost_s, cost_as_run_s=cost_s * 0.8,
            wall_s=cost_s * 1.1, eval_s=index * 0.1, data_s=index * 0.05, num_cotenants=trial.num_cotenants,
            calibration_id=trial.calibration_id, device="cpu", train_loss=2 / index, val_accuracy=accuracy,
            test_accuracy=accuracy - 0.01, sampling_rate=0.5, learning_rate=0.1,
        )  # fmt: skip
        rows.append({"sweep": "digits", "method": trial.method, "phase": trial.phase, **row.as_dict()})
    return rows


def trial_row(trial: PlannedTrial, curve: list[dict[str, Any]]) -> dict[str, Any]:
    """The row of the trial table that belongs to a made-up curve."""
    tta_s = first_reached((row["cost_ref_s"] for row in curve), (row["val_accuracy"] for row in curve), TARGET)
    status = trial.status or (Status.REACHED if math.isfinite(tta_s) else Status.BUDGET)
    return {
        "sweep": "digits", "trial_id": f"{trial.config_id}-{trial.seed}", "config_id": trial.config_id,
        "method": trial.method, "phase": trial.phase, "seed": trial.seed, "dataset": "digits", "pair": "wide_narrow",
        "configuration": trial.configuration, "status": status.value, "tta_ref_s": tta_s,
        "last_cost_ref_s": curve[-1]["cost_ref_s"] if curve else 0.0,
        "best_val_accuracy": max((row["val_accuracy"] for row in curve), default=math.nan),
        "wall_s": curve[-1]["wall_s"] if curve else 0.0, "num_evaluations": len(curve),
        "ended_at": 1e9 + len(trial.config_id) + 10 * trial.seed, "threads": 2, "device": "cpu",
        "calibration_id": trial.calibration_id, "error": trial.error,
        "sampler.start_rate": 0.6 if trial.method.startswith("kdas") else math.nan,
    }  # fmt: skip


def write_sweep(directory: Path, trials: Sequence[PlannedTrial], **terms: Any) -> Path:
    """Write all files of a sweep directory; `terms` replace entries of measure.json."""
    directory.mkdir(parents=True, exist_ok=True)
    curves = {trial: curve_of(trial) for trial in trials}
    rows = [row for curve in curves.values() for row in curve]
    pd.DataFrame(rows, columns=list(CURVE_COLUMNS)).to_parquet(directory / "curves.parquet")
    template = trial_row(PlannedTrial("plain_kd", "c", 0, 1.0), [])
    table = pd.DataFrame([trial_row(trial, curve) for trial, curve in curves.items()], columns=list(template))
    table.to_parquet(directory / "trials.parquet")
    measure = {
        "sweep": "digits", "target": TARGET, "target_rule": "0.99 of the baseline's median best accuracy",
        "tau_ref_s": TAU_S, "baseline": "plain_kd", "split": "validation", "calibration_id": "cal-1",
        "data_source": "scikit-learn digits", "seeds": sorted({trial.seed for trial in trials}),
        "num_planned_trials": len(trials),
    }  # fmt: skip
    (directory / "measure.json").write_text(json.dumps(measure | terms))
    (directory / "environment.json").write_text(json.dumps({"commit": "abc123", "torch": "2.13", "threads": "2"}))
    (directory / "sweep.yaml").write_text("name: digits\nsearch:\n  start_rate: [0.3, 0.9]\n")
    return directory


@pytest.fixture
def sweep_directory(tmp_path: Path) -> Path:
    """The standard sweep: 7 configurations on 3 seeds."""
    return write_sweep(tmp_path / "digits", planned_sweep())


@pytest.fixture
def new_sweep(tmp_path: Path) -> Callable[..., Path]:
    """Write another sweep: `new_sweep(trials, **terms)`."""
    return lambda trials, **terms: write_sweep(tmp_path / "other", trials, **terms)


@pytest.fixture
def plan() -> Callable[..., list[PlannedTrial]]:
    """The trials of the standard sweep on given seeds."""
    return planned_sweep


@pytest.fixture
def planned_trial() -> type[PlannedTrial]:
    """The class of one made-up trial."""
    return PlannedTrial


@pytest.fixture
def generator() -> np.random.Generator:
    """Randomness that is the same in every run."""
    return np.random.default_rng(7)


def row_of(found: Findings, config_id: str, phase: str = "search") -> Any:
    rows = found.summary.query("config_id == @config_id and phase == @phase").to_dict("records")
    assert len(rows) == 1
    return rows[0]


def texts(found: Findings, place: str) -> str:
    return " | ".join(caution.text for caution in found.cautions if caution.place == place)
