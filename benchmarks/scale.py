"""What a sweep of many trials costs in driver time, memory, disk and reading, without training any trial.

The real engine replays synthetic curves on a simulated clock (`sweeps.replay`): search, capping, sweep directory, with
`ROWS` evaluations per trial. Figures for each size `n`, each measured in a separate process:

- `scale_<n>_ms_per_trial`: the driver's time for a trial, from its proposal to its status on disk;
- `scale_<n>_driver_mb`: that process's peak memory;
- `scale_<n>_disk_mb`, `scale_<n>_largest_folder_entries`: size of the sweep directory, most entries of a folder in it;
- `scale_<n>_start_s`: a new start that finds everything done, from the search journal to the engine's full state;
- `scale_<n>_tables_s`, `scale_<n>_load_s`: writing the parquet tables, and loading the curves for analysis;
- `scale_<n>_status_s`, `scale_<n>_preview_s`: `make status` and `make preview` as whole processes.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from analysis.curves import load
from benchmarks.bench import Bench, Figures, prices
from benchmarks.memory import measured
from kdas.files.prices import write_calibration
from kdas.records import COMPLETE_STATUSES, CurveRow, Measure, Status
from kdas.seeding import derived_seed
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.engine.spending import Spending
from sweeps.file.layers import spec_path
from sweeps.file.loading import load_spec
from sweeps.prepare.resolved import plan_of, rule_of
from sweeps.prepare.unchanged import spec_text
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.tables import write_tables
from sweeps.record.trial import Recorded
from sweeps.replay.recorded import Curve
from sweeps.replay.replay import Replay, SimulatedClock

SEEDS = 5
ROWS = 60
SLOTS = 16
TAU_REF_S = 240.0
TARGET = 0.9
_SPEC = """\
extends: digits_kd
epochs: 240
evaluations: {rows}
seeds: {seeds}
target: {target}
budget: {{configurations: {configurations}}}
confirm: false
"""


def scale(bench: Bench) -> Figures:
    """Sweeps of 100, 1,000 and 10,000 trials; quick: 100 and 1,000."""
    figures: Figures = {}
    for size in (100, 1000) if bench.quick else (100, 1000, 10_000):
        bench.progress(f"a replayed sweep of {size:,} trials")
        figures |= {f"scale_{size}_{name}": value for name, value in of_size(size, bench.folder).items()}
    return figures


def of_size(num_trials: int, folder: Path) -> Figures:
    """Replay a sweep of `num_trials` under `folder` and read it again, in separate processes."""
    spec_file = write_spec(num_trials, folder)
    environment = {**os.environ, "RUNS_DIR": str(folder / "scale"), "PYTHONPATH": str(Path(__file__).parents[1])}

    def run(*words: str) -> tuple[str, float]:
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout, time.perf_counter() - began

    written = json.loads(run("benchmarks.scale", "replay", str(spec_file))[0])
    again = json.loads(run("benchmarks.scale", "again", str(spec_file))[0])
    return {
        **written,
        **again,
        "status_s": run("sweeps", "status", str(spec_file))[1],
        "preview_s": run("sweeps", "preview", str(spec_file))[1],
    }


def write_spec(num_trials: int, folder: Path) -> Path:
    """Write the sweep file. Returns: its path."""
    num_baselines = len(load_spec(spec_path("digits_kd")).baselines)
    spec_file = folder / f"scale_{num_trials}.yaml"
    text = _SPEC.format(rows=ROWS, seeds=SEEDS, target=TARGET, configurations=num_trials // SEEDS - num_baselines)
    spec_file.write_text(text, encoding="utf-8")
    return spec_file


def curve_of(job: Job) -> Curve:
    """A synthetic curve: its time to the target depends on the rates, and a little on the seed."""
    sampler = job.config.sampler
    far = abs(sampler.get("start_rate", 1.0) - 0.5) + abs(sampler.get("end_rate", 1.0) - 0.4)
    drawn = derived_seed(job.config.seed, job.config_id) % 1000 / 1000
    time_s = TAU_REF_S * (0.3 + 0.6 * far + 0.1 * drawn)
    rows = []
    for number in range(1, ROWS + 1):
        cost_s = number * TAU_REF_S / ROWS
        accuracy = TARGET * (1 - 0.5 * math.exp(-3 * cost_s / time_s)) if cost_s < time_s else TARGET + 0.01
        rows.append(Recorded(_row(job, number, cost_s, accuracy), [["step", 64, number * 100]], 1.7e9 + cost_s))
    return Curve(rows, Status.BUDGET)


def _row(job: Job, number: int, cost_s: float, accuracy: float) -> CurveRow:
    content = {
        **dict.fromkeys((field.name for field in dataclasses.fields(CurveRow)), 0),
        "trial_id": job.trial_id,
        "config_id": job.config_id,
        "seed": job.config.seed,
        "dataset": "digits",
        "pair": "resnet20->resnet8",
        "calibration_id": prices().calibration_id,
        "device": "cpu",
        "epoch": 4 * number,
        "step": 100 * number,
        "samples_trained": 6400 * number,
        "flops": 1e9 * number,
        "cost_ref_s": cost_s,
        "cost_as_run_s": cost_s,
        "wall_s": cost_s,
        "eval_s": 0.1,
        "data_s": 0.1,
        "train_loss": 1 / number,
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
    }
    return CurveRow(**content)  # type: ignore[arg-type]


def _agenda(spec_file: Path, directory: SweepDirectory, clock: SimulatedClock) -> Agenda:
    spec = load_spec(spec_file)
    measure = Measure(
        directory.name, TARGET, "given in the sweep file", TAU_REF_S, spec.methods.plain, "validation",
        prices().calibration_id, "digits", tuple(spec.seeds), 0,
    )  # fmt: skip
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.spec_file.write_text(spec_text(spec), encoding="utf-8")
    write_measure(directory, measure)
    write_calibration(directory.calibration_file, prices())
    plan, objective = plan_of(spec), objective_of(spec.objective, TAU_REF_S)
    terms = Terms(measure, lambda plain: measure, partial(rule_of, spec), objective)
    search = ConfigurationSearch(directory.study_file, spec.space, spec.algorithm, objective.directions)
    spending = Spending(spec.budget, 1 / SLOTS, directory.spent_file, clock)

    def is_here(job: Job) -> bool:
        return directory.trial(job.trial_id).status in COMPLETE_STATUSES

    return Agenda(plan, directory, lambda _: search, terms, spending, is_here)


def replayed(spec_file: Path, directory: SweepDirectory) -> Figures:
    """Replay a sweep of synthetic curves into a directory."""
    clock = SimulatedClock()
    began = time.perf_counter()
    Replay(_agenda(spec_file, directory, clock), directory, curve_of, SLOTS, clock).run()
    took_s = time.perf_counter() - began
    num_trials = sum(1 for _ in directory.trials())
    sizes = [len(names) + len(folders) for _, folders, names in os.walk(directory.path)]
    num_bytes = sum(path.stat().st_size for path in directory.path.rglob("*") if path.is_file())
    return {
        "trials": num_trials,
        "ms_per_trial": 1000 * took_s / num_trials,
        "driver_mb": measured()["peak_rss_mb"],
        "disk_mb": num_bytes / 1e6,
        "largest_folder_entries": max(sizes),
    }


def started_again(spec_file: Path, directory: SweepDirectory) -> Figures:
    """Start a finished sweep again, then write and load its tables."""
    began = time.perf_counter()
    agenda = _agenda(spec_file, directory, SimulatedClock())
    assert not agenda.fill() and agenda.is_finished
    start_s = time.perf_counter() - began
    began = time.perf_counter()
    write_tables(directory)
    tables_s = time.perf_counter() - began
    began = time.perf_counter()
    load(directory.path)
    return {"start_s": start_s, "tables_s": tables_s, "load_s": time.perf_counter() - began}


if __name__ == "__main__":
    _, _doing, _name = sys.argv
    _spec_file = Path(_name)
    _directory = SweepDirectory(Path(os.environ["RUNS_DIR"]) / _spec_file.stem)
    _figures = (replayed if _doing == "replay" else started_again)(_spec_file, _directory)
    print(json.dumps(_figures))
