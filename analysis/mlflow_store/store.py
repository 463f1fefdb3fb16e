"""A sweep directory built from an MLflow store, so that the report and all other readers work on it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Connection, Select

from analysis.mlflow_store import database, usable
from analysis.mlflow_store.evaluations import Evaluations, read_evaluations
from analysis.mlflow_store.sources import MEASURED, StoreRuns, by_run, identities, sources_with
from analysis.mlflow_store.terms import measure_of
from analysis.time_to_accuracy import times_to_accuracies
from kdas.errors import UserError
from kdas.records import CURVE_COLUMNS, TRIAL_COLUMNS, Measure, Status

EXPERIMENT = "kdas-sweeps"
_TEXTS = ("sweep", "method", "phase", "trial_id", "config_id", "dataset", "pair", "calibration_id", "device")


@dataclass(frozen=True)
class Stored:
    """A sweep from a store: the tables as `analysis.curves` loads them, what the sweep measures, and notes on runs
    that were left out or paused."""

    curves: pd.DataFrame
    trials: pd.DataFrame
    measure: Measure
    notes: tuple[str, ...] = ()


def load_store(
    uri: str,
    *,
    experiment: str | None = EXPERIMENT,
    sweep: str | None = None,
    names: Mapping[str, str] | None = None,
    target: float | None = None,
    baseline: str | None = None,
    budget_ref_s: float | None = None,
) -> Stored:
    """Read one sweep from an MLflow tracking database.

    Metrics are joined by run and step; of several values at one step the latest counts. Deleted runs and parents of
    trials are ignored. A killed or failed run counts as crashed: its time is only bounded. Of two runs of one trial, or
    of one configuration and seed, the one started later counts. A column that the store lacks is 0 for counts, NaN for
    measurements and "" for text.

    Args:
        uri: an SQLAlchemy URL or the path of an SQLite file.
        experiment: its name; None reads all experiments.
        sweep: needed if the store has several.
        names: column -> `metrics.<key>`, `params.<key>`, `tags.<key>` or `attributes.run_name`; overrides `SOURCES` of
            `analysis.mlflow_store.sources`. `cost_ref_s` can be `elapsed`, seconds since the run's start. If
            `val_accuracy` and `test_accuracy` have the same source, the test split decides.
        target: a fraction; by default the recorded one.
        baseline: a method; by default the first that trains on everything.
        budget_ref_s: in the unit of `cost_ref_s`; by default the recorded one, else the largest cost.
    Raises: UserError: if the store cannot be read or is not MLflow's, if a required column, the sweep or the target is
        missing, if accuracies are not fractions, or if a run has no steps or a cost that does not grow.
    """
    sources, mapped = sources_with(names or {}), frozenset(names or {})
    with database.opened(uri) as connection:
        everything = database.chosen_runs(connection, experiment)
        chosen, found = database.narrowed(connection, everything, sources["sweep"], sweep)
        runs = database.runs(connection, chosen)
        texts = database.texts(connection, chosen)
        texts |= {"attributes.run_id": by_run(runs, lambda run: run.uuid)}
        texts |= {"attributes.run_name": by_run(runs, lambda run: run.name)}
        store = StoreRuns(tuple(runs), texts, database.last_values(connection, chosen), sources, mapped)
        is_a_part = database.is_a_part(connection, len(runs))
        evaluations = read_evaluations(connection, store, chosen if is_a_part else None)
        if found is not None:
            _refuse_other_unit(connection, store, everything)
    name = found or experiment or "mlflow"
    who = identities(store, evaluations.runs, name)
    measure = measure_of(store, evaluations, who, target=target, baseline=baseline, budget_ref_s=budget_ref_s)
    curves, trials = _curve_table(evaluations, who), _trial_table(store, evaluations, who, measure)
    return Stored(curves, trials, measure, _notes(store, evaluations))


def named(options: Sequence[str]) -> dict[str, str]:
    """Parse `COLUMN=SOURCE` options. Raises: UserError: for another form, or a duplicate column."""
    names: dict[str, str] = {}
    for option in options:
        column, sign, source = option.partition("=")
        if not sign or not column or not source or column in names:
            raise UserError(f"--name: expected COLUMN=SOURCE once per column, got {option}. Example: seed=params.seed")
        names[column] = source
    return names


def write_store(stored: Stored, directory: Path) -> None:
    """Write tables and measure as a new sweep directory.

    Raises: UserError: if the directory is not empty or cannot be written.
    """
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory}: the folder is not empty. Choose a new one with --out.")
        directory.mkdir(parents=True, exist_ok=True)
        stored.curves.to_parquet(directory / "curves.parquet", index=False)
        stored.trials.to_parquet(directory / "trials.parquet", index=False)
        (directory / "measure.json").write_text(json.dumps(stored.measure.as_dict(), indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}. Choose another --out.") from error


def _refuse_other_unit(connection: Connection, store: StoreRuns, everything: Select[tuple[str]]) -> None:
    """An accuracy of at most 1 may be a percentage where the other runs of the experiment are: 0.9 for 0.9 %."""
    source = str(store.source("val_accuracy"))
    best = database.largest(connection, source.partition(".")[2], everything)
    if best > 1:
        raise UserError(
            f"val_accuracy: expected fractions in [0, 1], got {best:g} in other runs of the experiment ({source}), so"
            " values up to 1 in these runs may be percentages. Log 0.95 for 95%, in an experiment of its own."
        )


def _notes(store: StoreRuns, evaluations: Evaluations) -> tuple[str, ...]:
    notes: list[str] = []
    if left_out := evaluations.superseded:
        earlier, later = left_out[0]
        notes.append(
            f"Runs left out, since a later run has the same configuration and seed: {len(left_out)}, for example"
            f" {usable.named(earlier)} for {later.uuid} ({later.name}). If they differ in something, map config_id to"
            " it: --name config_id=params.<key>"
        )
    # Our own cost is counted work, which no pause adds to.
    if "cost_ref_s" in store.mapped and (paused := usable.pauses(evaluations)):
        first = paused[0]
        notes.append(
            f"Runs whose cost jumps, as a clock does while a run is paused: {len(paused)}, for example"
            f" {usable.named(first.run)}, by {first.taken:g} before step {first.step} where {first.usual:g} is usual"
            f" ({store.sources['cost_ref_s']}). If they were paused, their times are too long: use another metric, or"
            " delete them in MLflow."
        )
    return tuple(notes)


def _curve_table(evaluations: Evaluations, who: dict[str, list[str]]) -> pd.DataFrame:
    trials = pa.array(evaluations.trials)
    texts = pa.table({name: pa.array(who[name], pa.string()).take(trials) for name in _TEXTS}).to_pandas()
    seeds = np.array(who["seed"], np.int64)
    numbers: dict[str, NDArray[np.generic]] = {"seed": seeds[evaluations.trials], "step": evaluations.steps}
    for name, kind in MEASURED.items():
        values = evaluations.columns[name]
        numbers[name] = _counts(name, values) if kind == "int" else values
    return pd.DataFrame({name: texts[name] if name in texts else numbers[name] for name in CURVE_COLUMNS}, copy=False)


def _counts(name: str, values: NDArray[np.float64]) -> NDArray[np.generic]:
    """Whole numbers, 0 if none was logged; with NaN where none was, if only some evaluations have one.

    Our tracker logs `num_cotenants` only where it is not 0.
    """
    is_missing = np.isnan(values)
    if name != "num_cotenants" and is_missing.any() and not is_missing.all():
        return values
    return np.nan_to_num(values).astype(np.int64)


def _trial_table(
    store: StoreRuns, evaluations: Evaluations, who: dict[str, list[str]], measure: Measure
) -> pd.DataFrame:
    rows = [_last_of(evaluations, trial, measure) for trial in range(len(evaluations.runs))]
    numbers = pd.DataFrame(
        rows, columns=["tta_ref_s", "last_cost_ref_s", "best_val_accuracy", "wall_s", "num_evaluations"]
    )
    threads = store.said("threads")
    columns: dict[str, object] = {name: pd.Series(who[name], dtype="str") for name in who if name in TRIAL_COLUMNS}
    columns |= {
        **{str(name): numbers[name] for name in numbers},
        "seed": np.array(who["seed"], np.int64),
        "ended_at": np.array([run.end_ms / 1000 if run.end_ms else math.nan for run in evaluations.runs]),
        "threads": np.array(
            [store.whole_number("threads", run, threads.get(run.uuid, "0")) for run in evaluations.runs], np.int64
        ),
        "status": pd.Series(
            [_ended(status, math.isfinite(row[0])) for status, row in zip(who["status"], rows, strict=True)],
            dtype="str",
        ),
    }
    table = pd.DataFrame({name: columns[name] for name in TRIAL_COLUMNS})
    settings: dict[str, pd.Series] = {}
    for source in store.params():
        values = [store.texts[source].get(run.uuid) for run in evaluations.runs]
        name = source.removeprefix("params.")
        # As in our sweep directories: all of the sampler's parameters, and others in which trials differ.
        if name not in TRIAL_COLUMNS and (name.startswith("sampler.") or len(set(values)) > 1):
            settings[name] = _typed(values)
    return table.assign(**settings)


def _last_of(evaluations: Evaluations, trial: int, measure: Measure) -> tuple[float, float, float, float, int]:
    """A trial's time to the target, last cost, best accuracy, wall seconds and number of evaluations."""
    cost, accuracy = evaluations.of(trial, "cost_ref_s"), evaluations.of(trial, "val_accuracy")
    if not len(cost):
        return math.inf, 0.0, math.nan, 0.0, 0
    deciding = evaluations.of(trial, measure.deciding_column)
    tta_ref_s = float(times_to_accuracies(cost, deciding, [measure.target])[0])
    best, wall_s = np.fmax.reduce(accuracy), evaluations.of(trial, "wall_s")[-1]
    return tta_ref_s, float(cost[-1]), float(best), float(wall_s), len(cost)


def _ended(status: str, has_reached: bool) -> str:
    """The status for censoring: a trial that ran to its end either reached the target or used up its budget."""
    if status in (Status.BUDGET, Status.REACHED):
        return Status.REACHED.value if has_reached else Status.BUDGET.value
    return status


def _typed(values: list[str | None]) -> pd.Series:
    """A parameter's values, which MLflow stores as text, in their original type."""
    known = {value for value in values if value is not None}
    if known and known <= {"True", "False"}:
        return pd.Series([None if value is None else value == "True" for value in values])
    try:
        return pd.to_numeric(pd.Series(values, dtype="object"))
    except (ValueError, TypeError):
        return pd.Series(values, dtype="str")
