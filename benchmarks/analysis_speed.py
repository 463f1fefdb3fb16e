"""How long it takes to compute times to accuracy from recorded curves: our table against MLflow's own client.

The same synthetic curves are in an MLflow store (SQLite, written in batches) and in a sweep directory's
`curves.parquet`. Both sides compute the same number per run, the reference seconds to the target:

- the client, used in the common way: `get_metric_history` once for each run and metric, into one DataFrame;
- ours: `analysis.curves.load`.

`analysis_speedup_vs_mlflow_client` is the ratio of the medians. `analysis_<R>_s` are our seconds for R runs, and
`trial_table_<R>_s` the seconds for everything that the report computes per trial.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

# MLflow reads this when it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from analysis.curves import load, load_trials
from analysis.findings.trial_times import trial_times
from analysis.time_to_accuracy import time_to_accuracy
from benchmarks.bench import Bench, Figures
from kdas.records import CURVE_COLUMNS, LATER_COLUMNS, WITHOUT_TEACHER, Measure, Status
from sweeps.record.tables import curve_schema

TARGET = 0.9
TAU_REF_S = 240.0
METRICS = (
    "val_accuracy", "test_accuracy", "train_loss", "sampling_rate", "learning_rate", "cost_ref_s", "cost_as_run_s",
    "wall_s",
)  # fmt: skip
METRICS_PER_CALL = 1000
REPEATS = 5
_Times = dict[str, float]


def analysis_speed(bench: Bench) -> Figures:
    """The ratio for 50 runs of 8 metrics with 240 points, and our seconds for up to 10,000 runs of 60 points.

    Quick: 60 points, and up to 1,000 runs.
    """
    num_points = 60 if bench.quick else 240
    figures = _against_client(made_up_curves(50, num_points), bench.folder)
    for num_runs in (10, 100, 1000) if bench.quick else (10, 100, 1000, 10_000):
        bench.progress(f"curves of {num_runs:,} runs")
        directory = bench.folder / f"runs_{num_runs}"
        write_sweep(directory, made_up_curves(num_runs, 60))
        repeats = REPEATS if num_runs <= 1000 else 3
        figures[f"analysis_{num_runs}_s"] = _median_s(partial(times_of_ours, directory), repeats)
        figures[f"trial_table_{num_runs}_s"] = _median_s(partial(trial_table, directory), repeats)
    return figures


def _against_client(curves: pd.DataFrame, folder: Path) -> dict[str, float]:
    directory = folder / "against_client"
    write_sweep(directory, curves)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    run_ids = write_mlflow(uri, curves)
    theirs_s: list[float] = []
    ours_s: list[float] = []
    # Alternating, so that both sides see the same load of the machine.
    for _ in range(REPEATS):
        took_s, theirs = _timed(lambda: times_of_client(uri, run_ids))
        theirs_s.append(took_s)
        took_s, ours = _timed(lambda: times_of_ours(directory))
        ours_s.append(took_s)
        assert theirs == ours, "the two sides disagree on a time to accuracy"
    medians = statistics.median(theirs_s), statistics.median(ours_s)
    return {
        "analysis_speedup_vs_mlflow_client": medians[0] / medians[1],
        "analysis_50_by_mlflow_client_s": medians[0],
        "analysis_50_s": medians[1],
    }


def made_up_curves(num_runs: int, num_points: int) -> pd.DataFrame:
    """Synthetic curves in the columns of the curve table; accuracies level off on both sides of the target."""
    draw = np.random.default_rng(0)
    point = np.tile(np.arange(1, num_points + 1), num_runs)
    run = np.repeat(np.arange(num_runs), num_points)
    cost_ref_s = TAU_REF_S * point / num_points
    ceiling, half_s = draw.uniform(0.88, 0.97, num_runs)[run], draw.uniform(10, 60, num_runs)[run]
    val_accuracy = ceiling * (1 - 0.5 ** (cost_ref_s / half_s)) + draw.normal(0, 0.002, len(run))
    config = run // 5
    config_ids = np.char.add("c", config.astype(str))
    values = {
        **dict.fromkeys(("sweep", "dataset", "pair", "calibration_id", "device"), "made-up"),
        "method": np.where(config == 0, "plain_kd", "kdas_search"),
        "phase": "search",
        "trial_id": np.char.add(np.char.add(config_ids, "-s"), (run % 5).astype(str)),
        "config_id": config_ids,
        "seed": run % 5,
        "epoch": point,
        "step": 10 * point,
        **dict.fromkeys(("samples_trained", "samples_scored", "teacher_forwards"), 640 * point),
        "num_cotenants": 1,
        **dict.fromkeys(("sampling_rate", "learning_rate", *LATER_COLUMNS), 0.5),
        "flops": 1e9 * point,
        **dict.fromkeys(("cost_ref_s", "cost_as_run_s", "wall_s"), cost_ref_s),
        "eval_s": 0.1 * point,
        "data_s": 0.2,
        "train_loss": 2.0 / point,
        "val_accuracy": val_accuracy,
        "test_accuracy": val_accuracy - 0.01,
    }
    return pd.DataFrame(values)[list(CURVE_COLUMNS)]


def write_sweep(directory: Path, curves: pd.DataFrame) -> None:
    """Write the tables of a sweep directory as `sweeps.record.tables` does."""
    directory.mkdir(parents=True)
    priced = curves.assign(**{WITHOUT_TEACHER: 0.9 * curves["cost_ref_s"]})
    table = pa.Table.from_pandas(priced, schema=curve_schema(), preserve_index=False)
    pq.write_table(table, directory / "curves.parquet")
    last = curves.groupby("trial_id", sort=False).tail(1)
    names = ("sweep", "trial_id", "config_id", "method", "phase", "seed", "dataset", "pair", "device", "calibration_id")
    trials = last[list(names)].assign(
        configuration="made up",
        status=Status.BUDGET.value,
        tta_ref_s=np.inf,
        last_cost_ref_s=last["cost_ref_s"],
        best_val_accuracy=last["val_accuracy"],
        wall_s=last["wall_s"],
        num_evaluations=len(curves) // len(last),
        ended_at=1e9 + np.arange(len(last)),
        threads=1,
        error="",
    )
    pq.write_table(pa.Table.from_pandas(trials, preserve_index=False), directory / "trials.parquet")


def write_mlflow(uri: str, curves: pd.DataFrame) -> dict[str, str]:
    """Write one run per trial to a new store. Returns: the run id of each trial."""
    client = MlflowClient(uri)
    experiment = client.create_experiment("made-up")
    run_ids: dict[str, str] = {}
    for trial_id, curve in curves.groupby("trial_id", sort=False):
        run_ids[str(trial_id)] = run = str(client.create_run(experiment).info.run_id)
        steps = curve["step"].tolist()
        metrics = [
            Metric(name, value, 1000 * step, step)
            for name in METRICS
            for step, value in zip(steps, curve[name].tolist(), strict=True)
        ]
        for first in range(0, len(metrics), METRICS_PER_CALL):
            client.log_batch(run, metrics=metrics[first : first + METRICS_PER_CALL])
    return run_ids


def times_of_client(uri: str, run_ids: dict[str, str]) -> _Times:
    """Reference seconds to the target of each run, with one call per run and metric."""
    client = MlflowClient(uri)
    points = [
        (trial_id, metric.step, name, metric.value)
        for trial_id, run in run_ids.items()
        for name in METRICS
        for metric in client.get_metric_history(run, name)
    ]
    frame = pd.DataFrame(points, columns=["trial_id", "step", "metric", "value"])
    curves = frame.pivot_table(index=["trial_id", "step"], columns="metric", values="value").reset_index()
    return _times(curves)


def times_of_ours(directory: Path) -> _Times:
    """The same numbers from a sweep directory's table."""
    return _times(load(directory))


def _times(curves: pd.DataFrame) -> _Times:
    return {
        str(trial_id): time_to_accuracy(curve["cost_ref_s"], curve["val_accuracy"], TARGET)
        for trial_id, curve in curves[["trial_id", "cost_ref_s", "val_accuracy"]].groupby("trial_id")
    }


def trial_table(directory: Path) -> pd.DataFrame:
    """Everything that the report computes per trial."""
    terms = Measure("made-up", TARGET, "made up", TAU_REF_S, "plain_kd", "validation", "made-up", "made up", (0,), 1)
    return trial_times(load(directory), load_trials(directory), terms)


def _timed(work: Callable[[], _Times]) -> tuple[float, _Times]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _median_s(work: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
