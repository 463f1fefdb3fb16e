"""A whole sweep of 16 trials as a user starts it, against 16 runs of the field's usual trainer one after another.

Ours is the command `python -m sweeps run` in a new process, with a cache that is empty except for the teacher's
weights. Its time includes the start of Python, prices, filling the teacher bank, Ray, MLflow's follower, all trials and
tables. The trials are eight configurations on two seeds: plain distillation, KDAS's defaults and six proposals of the
search, which differ only in settings that do not change the cost. The reference is 2 runs of plain distillation and 14
of KDAS, one after another: each kind is timed a few times, and its median is multiplied by the number of runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks.bench import Bench, Figures
from benchmarks.reference_process import ReferenceProcess, reference_process
from kdas.files.control_groups import num_cpus

TEACHER, STUDENT = "vgg13", "vgg8"
SEEDS = [1, 2]
NUM_PLAIN, NUM_SEARCHED = len(SEEDS), 6
NUM_KDAS = len(SEEDS) * (1 + NUM_SEARCHED)


@dataclass(frozen=True)
class Size:
    """How much each trial trains, and how often each kind of reference run is timed."""

    num_train: int
    epochs: int
    periods: tuple[int, ...]
    repetitions: int


FULL = Size(num_train=1280, epochs=10, periods=(1, 3, 5, 10), repetitions=2)
QUICK = Size(num_train=256, epochs=5, periods=(1, 10), repetitions=1)


def sweep(bench: Bench) -> Figures:
    """The ratio of the two times, and what the sweep spent its time on."""
    size = QUICK if bench.quick else FULL
    with reference_process() as process:
        reference = {method: _reference_s(bench, process, size, method) for method in ("full", "kdas")}
    reference_s = NUM_PLAIN * reference["full"] + NUM_KDAS * reference["kdas"]
    bench.progress(f"our sweep of {NUM_PLAIN + NUM_KDAS} trials")
    runs = bench.folder / "runs"
    whole_s = _run(_sweep_file(bench, size), runs)
    trials = pd.read_parquet(runs / "sixteen" / "trials.parquet")
    assert len(trials) == NUM_PLAIN + NUM_KDAS and (trials.status != "crashed").all(), "every trial must run to its end"
    last = pd.read_parquet(runs / "sixteen" / "curves.parquet").groupby("trial_id").last()
    in_trials_s = float((last.wall_s + last.eval_s).sum())
    counts = last[["teacher_forwards"]].sum()
    return {
        "speedup_sweep_16_trials": reference_s / whole_s,
        "sweep_16_trials_s": whole_s,
        "reference_16_runs_s": reference_s,
        "sweep_share_of_slots_in_trials": in_trials_s / (num_cpus() * whole_s) if bench.device == "cpu" else 0.0,
        "sweep_bank_hit_rate": 1 - _forwards(runs) / float(counts.iloc[0]),
    }


def _reference_s(bench: Bench, process: ReferenceProcess, size: Size, method: str) -> float:
    """Median seconds of a run of the usual trainer."""
    sampler = "full" if method == "full" else {"name": "kdas", "sampling_period": size.periods}
    trial = bench.trial(
        TEACHER, STUDENT, size.num_train, size.num_train // 5, epochs=size.epochs, sampler=sampler, seed=1
    )
    seconds = []
    for number in range(1, size.repetitions + 1):
        bench.progress(f"reference, {method}, {number} of {size.repetitions}")
        seconds.append(process.run(trial.config).whole_s)
    return statistics.median(seconds)


def _sweep_file(bench: Bench, size: Size) -> Path:
    """Write the sweep file: same images, same teacher weights. Returns: its path."""
    trial = bench.trial(
        TEACHER, STUDENT, size.num_train, size.num_train // 5, epochs=size.epochs, sampler="full", seed=1
    )
    common = trial.config.model_dump(mode="json", include={"dataset", "teacher", "student", "epochs", "precision"})
    periods: dict[str, Any] = {"sampling_period": list(size.periods)}
    content = {
        **common,
        "validation": 0,
        "threads": 1,
        "device": bench.device,
        # Spread over a budget of which KDAS costs about two thirds: at least one per epoch, as in the reference.
        "evaluations": 2 * size.epochs,
        "sampler": {"name": "kdas", **periods},
        "baselines": {"plain_kd": "full", "kdas_defaults": {"name": "kdas", **periods}},
        "search": {"threshold": {"low": 0.05, "high": 0.4}, "penalty_lambda": {"low": 0.1, "high": 1000, "log": True}},
        "seeds": SEEDS,
        "target": 0.99,
        "budget": {"configurations": NUM_SEARCHED},
        # No early stopping: as many full trials as the usual trainer runs.
        "scheduler": "none",
        "confirm": False,
    }
    path = bench.folder / "sixteen.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def _run(sweep_file: Path, runs: Path) -> float:
    """Wall seconds of the sweep's process. Raises: CalledProcessError: if it fails, after printing its output."""
    cache = sweep_file.parent / "cache of the sweep"
    cache.mkdir()
    environment = {**os.environ, "RUNS_DIR": str(runs), "KDAS_CACHE": str(cache)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", "run", str(sweep_file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
        done.check_returncode()
    return time.perf_counter() - began


def _forwards(runs: Path) -> int:
    """Number of images that the teacher really ran on, from the ledgers of all trials."""
    num_asked = 0
    for curve in (runs / "sixteen" / "trials").glob("*/*/curve.jsonl"):
        ledger = json.loads(curve.read_text(encoding="utf-8").splitlines()[-1])["ledger"]
        num_asked += sum(size * count for work, size, count in ledger if work == "asked")
    return num_asked
