"""The evaluations of a store's trials: separately logged metrics joined into rows."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select

from analysis.mlflow_store import database
from analysis.mlflow_store.database import History, Run
from analysis.mlflow_store.sources import ELAPSED, MEASURED, StoreRuns
from analysis.mlflow_store.usable import refuse_unusable, refuse_unusable_steps
from kdas.errors import UserError

_METRICS_AT_ONCE = 4


@dataclass(frozen=True)
class Evaluations:
    """The rows of the curve table, ordered by trial and step; a trial is its position in `runs`.

    `trials` [R] and `steps` [R] identify the rows; each of `columns` has [R] values.
    """

    runs: list[Run]
    trials: NDArray[np.int64]
    steps: NDArray[np.int64]
    columns: dict[str, NDArray[np.float64]]
    # Runs that are left out, each with the later one of the same configuration and seed.
    superseded: list[tuple[Run, Run]]

    def of(self, trial: int, column: str) -> NDArray[np.float64]:
        """A column of one trial."""
        first, end = np.searchsorted(self.trials, [trial, trial + 1])
        return self.columns[column][first:end]


def read_evaluations(connection: Connection, store: StoreRuns, among: Select[tuple[str]] | None) -> Evaluations:
    """Every evaluation of every trial: one row wherever `val_accuracy` was logged.

    Args: among: a query for the runs to read, None for the entire store.
    Raises: UserError: if a required metric is missing, an evaluation has no cost, an accuracy is not a fraction, or a
        run logged no steps or a cost that does not grow.
    """
    candidates = [run for run in store.runs if not store.is_sweep(run)]
    needs_times = ELAPSED in store.sources.values()

    def history(source: str, runs: Sequence[Run], with_times: bool = False) -> History:
        key, uuids = source.partition(".")[2], [run.uuid for run in runs]
        return database.history(connection.engine, key, uuids, among=among, with_times=with_times)

    first = str(store.source("val_accuracy"))
    logged = history(first, candidates, needs_times)
    has_rows = np.bincount(logged.run_codes, minlength=len(candidates)) > 0
    if not len(logged.run_codes):
        raise UserError(
            f"val_accuracy: {first} has no values in these runs. Name another source, for example --name"
            " val_accuracy=metrics.<key>"
        )
    runs, codes, superseded = _trials(store, candidates, has_rows)
    refuse_unusable_steps(store, runs, codes[logged.run_codes], logged.steps)
    joined = _Join(codes[logged.run_codes], logged.steps)
    sources = {column: store.source(column) for column in MEASURED}
    others = {source for source in sources.values() if source and source.startswith("metrics.")} - {first}
    # Several at once: SQLite releases the GIL while it reads.
    with ThreadPoolExecutor(_METRICS_AT_ONCE) as pool:
        read = dict(zip(others, pool.map(lambda source: joined.aligned(history(source, runs)), others), strict=True))
    read[first] = joined.first(logged.values)
    columns: dict[str, NDArray[np.float64]] = {}
    for column, source in sources.items():
        if source is None:
            columns[column] = np.full(len(joined.rows), np.nan)
        elif source == ELAPSED:
            starts_ms = np.array([run.start_ms for run in runs], np.int64)
            columns[column] = (joined.first(logged.timestamps_ms) - starts_ms[joined.trials]) / 1000
        elif source in read:
            columns[column] = read[source]
        else:
            columns[column] = np.array([_number(store, column, run) for run in runs])[joined.trials]
    evaluations = Evaluations(runs, joined.trials, joined.steps, columns, superseded)
    refuse_unusable(store, evaluations)
    return evaluations


def _trials(
    store: StoreRuns, candidates: list[Run], has_rows: NDArray[np.bool_]
) -> tuple[list[Run], NDArray[np.int64], list[tuple[Run, Run]]]:
    """The runs that are trials, ordered by trial id, each candidate's position among them, or -1, and the runs that
    are left out for a later one of the same configuration and seed."""
    parents = set(store.texts.get("tags.mlflow.parentRunId", {}).values())
    methods, seeds, trial_ids = store.said("method"), store.said("seed"), store.said("trial_id")
    by_id: dict[str, int] = {}
    for place, run in enumerate(candidates):
        # A run without evaluations is a trial only if it has a method and a seed and no child runs.
        is_placed = run.uuid in methods and run.uuid in seeds and run.uuid not in parents
        if has_rows[place] or is_placed:
            by_id[trial_ids.get(run.uuid, run.uuid)] = place
    same: dict[tuple[str, ...], int] = {}
    superseded: list[tuple[Run, Run]] = []
    # In the order in which they were started.
    for place in sorted(by_id.values()):
        run = candidates[place]
        earlier = same.get(who := store.identity(run))
        if earlier is not None:
            superseded.append((candidates[earlier], run))
        same[who] = place
    counts = set(same.values())
    places = [by_id[trial_id] for trial_id in sorted(by_id) if by_id[trial_id] in counts]
    codes = np.full(len(candidates), -1, np.int64)
    codes[places] = np.arange(len(places))
    return [candidates[place] for place in places], codes, superseded


class _Join:
    """Aligns metrics with the rows of the first one, by trial and step; of several values the latest counts."""

    def __init__(self, trials: NDArray[np.int64], steps: NDArray[np.int64]) -> None:
        self._asked = trials >= 0
        self._trials, self._steps = trials[self._asked], steps[self._asked]
        self._low = int(self._steps.min(initial=0))
        self._span = int(self._steps.max(initial=0)) - self._low + 1
        self.rows, self._keys = self._latest(self._trials, self._steps)
        self.trials, self.steps = self._trials[self.rows], self._steps[self.rows]

    def first(self, values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
        """The first metric's own values, or timestamps, at the rows."""
        return values[self._asked][self.rows].astype(np.float64)

    def aligned(self, history: History) -> NDArray[np.float64]:
        """Another metric's values at the rows, NaN where it was not logged."""
        # Metrics that are always logged together have the same order, so the first one's sorting fits.
        if np.array_equal(history.run_codes, self._trials) and np.array_equal(history.steps, self._steps):
            return history.values[self.rows]
        inside = (history.steps >= self._low) & (history.steps < self._low + self._span)
        rows, keys = self._latest(history.run_codes[inside], history.steps[inside])
        aligned = np.full(len(self.rows), np.nan)
        _, mine, theirs = np.intersect1d(self._keys, keys, assume_unique=True, return_indices=True)
        aligned[mine] = history.values[inside][rows][theirs]
        return aligned

    def _latest(
        self, trials: NDArray[np.int64], steps: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of the latest row of every trial and step, sorted, and a key for both."""
        keys = trials * self._span + (steps - self._low)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        is_last = np.append(keys[1:] != keys[:-1], np.ones(min(len(keys), 1), bool))
        return order[is_last], keys[is_last]


def _number(store: StoreRuns, column: str, run: Run) -> float:
    """A measurement that is constant within a run, from a parameter or a tag."""
    text = store.said(column).get(run.uuid, "nan")
    try:
        return float(text)
    except ValueError:
        raise UserError(
            f"{column}: expected a number, got {text!r} ({store.sources[column]} of run {run.uuid}). Use another"
            f" source: --name {column}=metrics.<key>"
        ) from None
