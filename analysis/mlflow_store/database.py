"""Reads an MLflow tracking database in bulk through SQL and never writes it. MLflow itself is not needed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

import adbc_driver_manager
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, Select, column, select, table
from sqlalchemy.exc import DBAPIError

from analysis.mlflow_store.address import engine_of
from analysis.mlflow_store.columns import in_chunks
from kdas.errors import UserError, brief, nearest

# Only the columns that are read.
_EXPERIMENTS = table("experiments", column("experiment_id"), column("name"))
_RUNS = table(
    "runs", *map(column, ("run_uuid", "name", "status", "start_time", "end_time", "lifecycle_stage", "experiment_id"))
)
_TAGS = table("tags", column("key"), column("value"), column("run_uuid"))
_PARAMS = table("params", column("key"), column("value"), column("run_uuid"))
_LATEST = table("latest_metrics", column("key"), column("value"), column("run_uuid"))
_METRICS = table(
    "metrics", *map(column, ("key", "value", "timestamp", "step", "run_uuid")), column("is_nan", sa.Boolean())
)
_TABLES = (_EXPERIMENTS, _RUNS, _TAGS, _PARAMS, _LATEST, _METRICS)
# SQLite keeps a value of any type in any column, so what comes out is checked. Texts may be missing, and so may times.
_KINDS: dict[Any, tuple[type[Any], ...]] = {
    **dict.fromkeys((_EXPERIMENTS.c.name, _RUNS.c.run_uuid), (str,)),
    **dict.fromkeys((_EXPERIMENTS.c.experiment_id,), (int,)),
    **dict.fromkeys((_RUNS.c.name, _RUNS.c.status), (str, type(None))),
    **dict.fromkeys((_RUNS.c.start_time, _RUNS.c.end_time), (int, type(None))),
    **dict.fromkeys((each.c[name] for each in (_TAGS, _PARAMS) for name in ("key", "run_uuid")), (str,)),
    **dict.fromkeys((_TAGS.c.value, _PARAMS.c.value), (str, type(None))),
    **dict.fromkeys((_LATEST.c.key, _LATEST.c.run_uuid), (str,)),
    **dict.fromkeys((_LATEST.c.value, _METRICS.c.value), (int, float)),
}
_IN_WORDS = {str: "text", int: "a whole number", float: "a number"}
_REMEDY = "Restore the store from a copy, or delete the run in MLflow"
# MLflow's longest texts have 8,000 characters.
_LONGEST_BYTES = 1_000_000
# Above what MLflow itself copes with; more would take minutes and gigabytes to read.
_MOST_RUNS, _MOST_KEYS = 200_000, 10_000
# The columns read of a metric's history; a run is its position among the requested runs.
_HISTORY = {
    "run_uuid": pa.int64(),
    "step": pa.int64(),
    "value": pa.float64(),
    "is_nan": pa.bool_(),
    "timestamp": pa.int64(),
}


@dataclass(frozen=True)
class Run:
    """One run that was not deleted. `status` is MLflow's; times are milliseconds since 1970, 0 if unknown."""

    uuid: str
    name: str
    status: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True)
class History:
    """All values of one metric, in the order in which they were logged.

    `run_codes` [N]: positions in the list of requested runs; `steps` [N]: MLflow's steps; `values` [N];
    `timestamps_ms` [N]: milliseconds since 1970, empty unless requested.
    """

    run_codes: NDArray[np.int64]
    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    timestamps_ms: NDArray[np.int64]


@contextmanager
def opened(uri: str) -> Iterator[Connection]:
    """A connection to a tracking database; an SQLite file is opened read-only.

    Args: uri: an SQLAlchemy URL, as for MLflow, or the path of an SQLite file.
    Raises: UserError: if it names a tracking server, a missing file, or a database that is not MLflow's, or if reading
        the database fails.
    """
    engine, shown = engine_of(uri)
    if engine.url.get_backend_name() == "sqlite":
        sa.event.listen(engine, "connect", _limit_length)
    try:
        missing = {each.name for each in _TABLES} - set(sa.inspect(engine).get_table_names())
        if missing:
            absent = sorted(missing)[0]
            raise UserError(f"{shown}: not an MLflow store, table {absent} is missing. Give its --backend-store-uri.")
        if engine.url.get_backend_name() == "sqlite":
            _refuse_computed(engine, shown)
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, adbc_driver_manager.Error) as error:
        reason = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
        raise UserError(f"{shown}: cannot be read ({reason}). Check the file or URL, and your permissions.") from error
    finally:
        engine.dispose()


def _refuse_computed(engine: Engine, shown: str) -> None:
    """A file may hold columns, and entire tables, that are computed while they are read, and of any size.

    Raises: UserError: if one of the tables that are read is such a table, or has such a column.
    """
    with engine.connect() as connection:
        for name in (each.name for each in _TABLES):
            is_virtual = sa.text("select rootpage = 0 from sqlite_master where type = 'table' and name = :name")
            hidden = sa.text("select name from pragma_table_xinfo(:name) where hidden > 0")
            computed = list(connection.execute(hidden, {"name": name}).scalars())
            if computed or connection.execute(is_virtual, {"name": name}).scalar():
                what = f"column {computed[0]} of table {name}" if computed else f"table {name}"
                raise UserError(
                    f"{shown}: not an MLflow store, {what} is computed while it is read. Give the file that MLflow"
                    " writes."
                )


def _limit_length(connection: sqlite3.Connection, record: object) -> None:
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_BYTES)


def _rows(connection: Connection, columns: tuple[Any, ...], *where: ColumnElement[bool]) -> Iterator[tuple[Any, ...]]:
    """The rows of a query. Raises: UserError: if a value is of another type than MLflow writes."""
    kinds = [_KINDS[each] for each in columns]
    for row in connection.execute(select(*columns).where(*where)):
        for place, (value, allowed) in enumerate(zip(row, kinds, strict=True)):
            if not isinstance(value, allowed):
                source, kind = columns[place], float if float in allowed else allowed[0]
                raise UserError(
                    f"{source.table.name}.{source.name}: expected {_IN_WORDS[kind]} in the store, got {brief(value)}."
                    f" {_REMEDY}."
                )
        yield tuple(row)


def chosen_runs(connection: Connection, experiment: str | None) -> Select[tuple[str]]:
    """A query for the ids of an experiment's runs that were not deleted; None means all experiments.

    Raises: UserError: if the store has no experiment with that name.
    """
    active = select(_RUNS.c.run_uuid).where(_RUNS.c.lifecycle_stage == "active")
    if experiment is None:
        return active
    ids: dict[str, list[int]] = {}
    for name, experiment_id in _rows(connection, (_EXPERIMENTS.c.name, _EXPERIMENTS.c.experiment_id)):
        ids.setdefault(name, []).append(experiment_id)
    if experiment not in ids:
        raise UserError(f"--experiment: the store has no experiment {experiment!r}. {nearest(experiment, ids)}")
    return active.where(_RUNS.c.experiment_id.in_(ids[experiment]))


def narrowed(
    connection: Connection, chosen: Select[tuple[str]], source: str, value: str | None
) -> tuple[Select[tuple[str]], str | None]:
    """The chosen runs whose `source` (`tags.<key>` or `params.<key>`) is `value`.

    Returns: the query and the value; if `value` is None, the only value in the store, or None if there is none.
    Raises: UserError: if the value does not occur, or `value` is None and there are several.
    """
    kind, _, key = source.partition(".")
    where = _TAGS if kind == "tags" else _PARAMS
    said = select(where.c.value).where(where.c.key == key, where.c.run_uuid.in_(chosen)).distinct()
    known = sorted(str(name) for (name,) in connection.execute(said))
    if value is None:
        if len(known) > 1:
            raise UserError(f"--sweep: the store has {len(known)} sweeps: {', '.join(known)}. Name one.")
        value = known[0] if known else None
    elif value not in known:
        hint = nearest(value, known) if known else "No run names a sweep."
        raise UserError(f"--sweep: the store has no sweep {value!r} ({source}). {hint}")
    if value is None:
        return chosen, None
    saying = select(where.c.run_uuid).where(where.c.key == key, where.c.value == value)
    return chosen.where(_RUNS.c.run_uuid.in_(saying)), value


def largest(connection: Connection, key: str, chosen: Select[tuple[str]]) -> float:
    """The largest finite value of a metric in the chosen runs, 0 if there is none above."""
    finite = (_METRICS.c.key == key) & (_METRICS.c.value < float(np.finfo(np.float64).max))
    query = select(sa.func.max(_METRICS.c.value)).where(finite, _METRICS.c.run_uuid.in_(chosen))
    return float(connection.execute(query).scalar_one() or 0.0)


def is_a_part(connection: Connection, num_runs: int) -> bool:
    """Whether the runs are less than half of the store: then reading only their rows is faster."""
    total = connection.execute(select(sa.func.count()).select_from(_RUNS)).scalar_one()
    return bool(2 * num_runs < total)


def runs(connection: Connection, chosen: Select[tuple[str]]) -> list[Run]:
    """The chosen runs in the order of their start.

    Raises: UserError: if they are too many, or one is there twice.
    """
    columns = (_RUNS.c.run_uuid, _RUNS.c.name, _RUNS.c.status, _RUNS.c.start_time, _RUNS.c.end_time)
    rows = islice(_rows(connection, columns, _RUNS.c.run_uuid.is_(None) | _RUNS.c.run_uuid.in_(chosen)), _MOST_RUNS + 1)
    found = (Run(uuid, name or "", status or "", *(time or 0 for time in times)) for uuid, name, status, *times in rows)
    in_order = sorted(found, key=lambda run: (run.start_ms, run.uuid))
    if len(in_order) > _MOST_RUNS:
        raise UserError(
            f"runs: expected at most {_MOST_RUNS} in what is read, got more. Choose fewer with --experiment or --sweep."
        )
    uuids = [run.uuid for run in in_order]
    if len(set(uuids)) < len(uuids):
        twice = Counter(uuids).most_common(1)[0][0]
        raise UserError(f"runs.run_uuid: expected each run once, got {twice} twice. {_REMEDY}.")
    return in_order


def texts(connection: Connection, chosen: Select[tuple[str]]) -> dict[str, dict[str, str]]:
    """All tags and parameters of the chosen runs: by `tags.<key>` or `params.<key>`, then by run id.

    Raises: UserError: if they have too many keys.
    """
    found: dict[str, dict[str, str]] = {}
    for prefix, source in (("tags", _TAGS), ("params", _PARAMS)):
        columns = (source.c.key, source.c.run_uuid, source.c.value)
        by_key: dict[str, dict[str, str]] = {}
        for key, uuid, value in _rows(connection, columns, source.c.run_uuid.in_(chosen)):
            by_key.setdefault(key, {})[uuid] = value or ""
            if len(by_key) > _MOST_KEYS:
                raise UserError(
                    f"{source.name}: expected at most {_MOST_KEYS} different keys, got more. Delete the runs that have"
                    " them in MLflow, or choose others with --experiment or --sweep."
                )
        found |= {f"{prefix}.{key}": values for key, values in by_key.items()}
    return found


def last_values(connection: Connection, chosen: Select[tuple[str]]) -> dict[str, dict[str, float]]:
    """The last value of every metric: by `metrics.<key>`, then by run id."""
    found: dict[str, dict[str, float]] = {}
    columns = (_LATEST.c.key, _LATEST.c.run_uuid, _LATEST.c.value)
    for key, uuid, value in _rows(connection, columns, _LATEST.c.run_uuid.in_(chosen)):
        found.setdefault(f"metrics.{key}", {})[uuid] = value
    return found


def history(
    engine: Engine,
    key: str,
    uuids: list[str],
    *,
    among: Select[tuple[str]] | None = None,
    with_times: bool = False,
) -> History:
    """Every value of a metric in the runs `uuids`.

    Rows are ordered by timestamp and step, as in MLflow's primary key. Several threads may call it at once: each call
    has its own connection.

    Args: among: a query that restricts the rows, which is faster for few runs; None reads all rows.
    Raises: UserError: if a value, step or time is of another type than MLflow writes.
    """
    names = list(_HISTORY) if with_times else list(_HISTORY)[:-1]
    query = select(*(_METRICS.c[name] for name in names)).where(_METRICS.c.key == key)
    query = query.order_by(_METRICS.c.timestamp, _METRICS.c.step)
    if among is not None:
        query = query.where(_METRICS.c.run_uuid.in_(among))
    schema = pa.schema([(name, _HISTORY[name]) for name in names])
    known = pa.array(uuids, pa.string())
    batches = []
    try:
        for ids, *cells in in_chunks(engine, query):
            codes = pc.index_in(ids, value_set=known)
            batches.append(pa.record_batch([codes, *cells], names=names).filter(codes.is_valid()).cast(schema))
    except pa.ArrowException:
        _refuse_history(engine, key)
    rows = pa.Table.from_batches(batches, schema)
    if any(rows[name].null_count for name in names if name != "is_nan"):
        _refuse_history(engine, key)
    # MLflow stores NaN as 0 with a flag, and infinity as the largest number.
    values = np.where(rows["is_nan"], np.nan, rows["value"])
    is_infinite = np.abs(values) >= np.finfo(np.float64).max
    values[is_infinite] = np.copysign(np.inf, values[is_infinite])
    times = np.asarray(rows["timestamp"]) if with_times else np.empty(0, np.int64)
    return History(np.asarray(rows["run_uuid"]), np.asarray(rows["step"]), values, times)


def _refuse_history(engine: Engine, key: str) -> NoReturn:
    """Raises: UserError: names the first value, step or time of a metric whose type MLflow does not write."""
    expected = {"step": ("integer",), "timestamp": ("integer",), "value": ("real", "integer"), "run_uuid": ("text",)}
    got = ""
    if engine.url.get_backend_name() == "sqlite":
        for name, kinds in expected.items():
            is_wrong = sa.func.typeof(_METRICS.c[name]).not_in(kinds)
            query = select(_METRICS.c.run_uuid, _METRICS.c[name]).where(_METRICS.c.key == key, is_wrong).limit(1)
            with engine.connect() as connection:
                found = connection.execute(query).first()
            if found is not None:
                got = f", got {brief(found[1])} as {name} in run {found[0]}"
                break
    raise UserError(
        f"metrics.{key}: expected numbers, each with a step and a time that are whole numbers{got}. {_REMEDY}."
    )
