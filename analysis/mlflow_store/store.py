"""The tables of a sweep directory, made of what an MLflow store holds: everything that reads those works on them."""

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

from analysis.curves import PHASES
from analysis.mlflow_store import database
from analysis.mlflow_store.evaluations import Evaluations, read_evaluations
from analysis.mlflow_store.sources import MEASURED, StoreRuns, by_run, identities, sources_with
from analysis.time_to_accuracy import times_to_accuracies
from kdas.errors import UserError, nearest
from kdas.records import CURVE_COLUMNS, TRIAL_COLUMNS, Measure, Status

EXPERIMENT = "kdas-sweeps"
_TEXTS = ("sweep", "method", "phase", "trial_id", "config_id", "dataset", "pair", "calibration_id", "device")


@dataclass(frozen=True)
class Stored:
    """A sweep as a store tells it: the tables as `analysis.curves` loads them, and what the sweep measures."""

    curves: pd.DataFrame
    trials: pd.DataFrame
    measure: Measure


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

    Metrics are joined by run and step; of several values of one step the latest counts. Deleted runs and parents of
    trials are left out. A run that was killed or has failed counts as crashed: its time is only bounded. Of two runs
    of one trial the one started later counts. A column that the store does not hold is 0 where it counts, NaN where
    it measures, and empty where it is a text.

    Args: uri: an SQLAlchemy URL or the path of an SQLite file; experiment: its name, None for all of them; sweep: which
        one, where the store holds several; names: column -> `metrics.<key>`, `params.<key>`, `tags.<key>` or
        `attributes.run_name`, over `SOURCES` of `analysis.mlflow_store.sources`; `cost_ref_s` can be `elapsed`, seconds
        since the run's start. If `val_accuracy` and `test_accuracy` name the same metric, the test split decides.
        target: a fraction, by default what our tracker recorded; baseline: a method, by default the first that
        trains on everything; budget_ref_s: the budget in the unit of `cost_ref_s`, by default what our tracker
        recorded, else the largest cost.
    Raises: UserError: if the store cannot be read or is none, if a needed column, the sweep or the target is missing,
        and for accuracies that are no fractions.
    """
    sources, mapped = sources_with(names or {}), frozenset(names or {})
    with database.opened(uri) as connection:
        chosen = database.chosen_runs(connection, experiment)
        chosen, found = database.narrowed(connection, chosen, sources["sweep"], sweep)
        runs = database.runs(connection, chosen)
        texts = database.texts(connection, chosen)
        texts |= {"attributes.run_id": by_run(runs, lambda run: run.uuid)}
        texts |= {"attributes.run_name": by_run(runs, lambda run: run.name)}
        store = StoreRuns(tuple(runs), texts, database.last_values(connection, chosen), sources, mapped)
        is_a_part = database.is_a_part(connection, len(runs))
        evaluations = read_evaluations(connection, store, chosen if is_a_part else None)
    name = found or experiment or "mlflow"
    who = identities(store, evaluations.runs, name)
    measure = _measure(store, evaluations, who, target=target, baseline=baseline, budget_ref_s=budget_ref_s)
    return Stored(_curve_table(evaluations, who), _trial_table(store, evaluations, who, measure), measure)


def named(options: Sequence[str]) -> dict[str, str]:
    """The mapping that `COLUMN=SOURCE` options give. Raises: UserError: for one of another form, or a column twice."""
    names: dict[str, str] = {}
    for option in options:
        column, sign, source = option.partition("=")
        if not sign or not column or not source or column in names:
            raise UserError(f"--name {option}: write COLUMN=SOURCE, once a column: --name val_accuracy=metrics.acc")
        names[column] = source
    return names


def write_store(stored: Stored, directory: Path) -> None:
    """Write the tables and the measure as a new sweep directory, which every command that reads one takes.

    Raises: UserError: if the directory holds something already, or cannot be written.
    """
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory}: is not empty, and nothing is overwritten. Give --out a new folder.")
        directory.mkdir(parents=True, exist_ok=True)
        stored.curves.to_parquet(directory / "curves.parquet", index=False)
        stored.trials.to_parquet(directory / "trials.parquet", index=False)
        (directory / "measure.json").write_text(json.dumps(stored.measure.as_dict(), indent=1), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{directory}: cannot be written: {error.strerror}. Give --out another folder.") from error


def _measure(
    store: StoreRuns,
    evaluations: Evaluations,
    who: dict[str, list[str]],
    *,
    target: float | None,
    baseline: str | None,
    budget_ref_s: float | None,
) -> Measure:
    """What was asked for, else what our tracker recorded at the sweep's parent run."""
    name = who["sweep"][0] if who["sweep"] else ""
    recorded = _recorded(store)
    rule = "given" if target is not None else "recorded by the sweep"
    target = recorded.get("target") if target is None else target
    if target is None:
        raise UserError(f"--target: the store has recorded none for {name}. Give a fraction, for example --target 0.9.")
    if not 0 < target <= 1:
        raise UserError(f"--target: {target:g} is not in (0, 1]. An accuracy is a fraction: 0.95 for 95 %.")
    largest = float(np.max(evaluations.columns["cost_ref_s"], initial=0.0))
    if budget_ref_s is None:
        # What was recorded is in our reference seconds, and no budget of any other cost.
        budget_ref_s = largest if "cost_ref_s" in store.mapped else recorded.get("tau_ref_s", largest)
    if not budget_ref_s > 0:
        raise UserError(
            f"--tau: {budget_ref_s:g} is not above 0. It is the budget of a trial in the unit of cost_ref_s."
        )
    calibrations = tuple(sorted(set(who["calibration_id"]) - {""}))
    seeds = who["seed"]
    searched = [int(seed) for seed, phase in zip(seeds, who["phase"], strict=True) if phase == PHASES[0]]
    return Measure(
        sweep=name,
        target=target,
        target_rule=rule,
        budget_ref_s=budget_ref_s,
        baseline=_baseline(store, evaluations, who["method"], baseline),
        split="test" if _test_decides(store) else "validation",
        calibration_id=calibrations[0] if len(calibrations) == 1 else "",
        data_source=next(filter(None, who["data_source"]), "an MLflow store"),
        seeds=tuple(sorted(set(searched or map(int, seeds)))),
        num_planned_trials=len(evaluations.runs),
    )


def _recorded(store: StoreRuns) -> dict[str, float]:
    """Target and budget as our tracker logs them when a sweep has ended, of the latest parent run that has them."""
    parents = [run for run in store.runs if store.is_sweep(run)]
    return {
        name: values[run.uuid]
        for name, values in ((name, store.last.get(f"metrics.{name}", {})) for name in ("target", "tau_ref_s"))
        for run in parents
        if run.uuid in values
    }


def _baseline(store: StoreRuns, evaluations: Evaluations, methods: list[str], asked: str | None) -> str:
    """The method that others are compared with: the one asked for, else the first that trains on everything."""
    known = sorted(set(methods))
    if asked is None:
        samplers = store.texts.get("params.sampler.name", {})
        named = zip(evaluations.runs, methods, strict=True)
        plain = [(run.start_ms, method) for run, method in named if samplers.get(run.uuid) == "full"]
        if not plain:
            raise UserError(f"--baseline: name the method to compare with, one of {', '.join(known)}.")
        return min(plain)[1]
    if asked not in known:
        raise UserError(f"--baseline: the store has no method {asked!r}. {nearest(asked, known)}")
    return asked


def _test_decides(store: StoreRuns) -> bool:
    if store.mapped & {"val_accuracy", "test_accuracy"}:
        return store.sources["val_accuracy"] == store.sources["test_accuracy"]
    # Our own trials without a validation split are decided by the test split.
    return set(store.texts.get("params.validation", {}).values()) in ({"0"}, {"0.0"})


def _curve_table(evaluations: Evaluations, who: dict[str, list[str]]) -> pd.DataFrame:
    trials = pa.array(evaluations.trials)
    texts = pa.table({name: pa.array(who[name], pa.string()).take(trials) for name in _TEXTS}).to_pandas()
    seeds = np.array(who["seed"], np.int64)
    numbers: dict[str, NDArray[np.generic]] = {"seed": seeds[evaluations.trials], "step": evaluations.steps}
    for name, kind in MEASURED.items():
        values = evaluations.columns[name]
        numbers[name] = np.nan_to_num(values).astype(np.int64) if kind == "int" else values
    return pd.DataFrame({name: texts[name] if name in texts else numbers[name] for name in CURVE_COLUMNS}, copy=False)


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
        # Of the sampler all, as a sweep directory has them; of the rest what trials differ in.
        if name not in TRIAL_COLUMNS and (name.startswith("sampler.") or len(set(values)) > 1):
            settings[name] = _typed(values)
    return table.assign(**settings)


def _last_of(evaluations: Evaluations, trial: int, measure: Measure) -> tuple[float, float, float, float, int]:
    """Of a trial the time to the target, the cost at its end, its best accuracy, its wall seconds, its evaluations."""
    cost, accuracy = evaluations.of(trial, "cost_ref_s"), evaluations.of(trial, "val_accuracy")
    if not len(cost):
        return math.inf, 0.0, math.nan, 0.0, 0
    deciding = evaluations.of(trial, measure.deciding_column)
    tta_ref_s = float(times_to_accuracies(cost, deciding, [measure.target])[0])
    best, wall_s = np.fmax.reduce(accuracy), evaluations.of(trial, "wall_s")[-1]
    return tta_ref_s, float(cost[-1]), float(best), float(wall_s), len(cost)


def _ended(status: str, has_reached: bool) -> str:
    """The status that censoring goes by: a trial that ran to its end has reached the target, or used its budget."""
    if status in (Status.BUDGET, Status.REACHED):
        return Status.REACHED.value if has_reached else Status.BUDGET.value
    return status


def _typed(values: list[str | None]) -> pd.Series:
    """A parameter's values as MLflow keeps them, texts, in the type that they had."""
    known = {value for value in values if value is not None}
    if known and known <= {"True", "False"}:
        return pd.Series([None if value is None else value == "True" for value in values])
    try:
        return pd.to_numeric(pd.Series(values, dtype="object"))
    except (ValueError, TypeError):
        return pd.Series(values, dtype="str")
