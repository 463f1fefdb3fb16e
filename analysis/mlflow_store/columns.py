"""The rows of a query as Arrow's columns, through the fastest driver of the database that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import adbc_driver_sqlite.dbapi
import pyarrow as pa
from adbc_driver_sqlite import StatementOptions
from sqlalchemy import Engine, Select
from sqlalchemy.dialects import postgresql

# Chunks of the rows, each with one array per column.
Chunks = Iterator[list[pa.Array]]
Reader = Callable[[Engine, Select[tuple[Any, ...]]], Chunks]
_ROWS_AT_ONCE = 65_536
_WAIT_FOR_WRITER_MS = 5_000


def in_chunks(engine: Engine, query: Select[tuple[Any, ...]]) -> Chunks:
    """The rows of a query in chunks, one Arrow array per column."""
    return _READERS.get(engine.url.get_backend_name(), in_columns)(engine, query)


def in_columns(engine: Engine, query: Select[tuple[Any, ...]]) -> Chunks:
    """The rows of a query in chunks, one Arrow array per column, through the database's own driver."""
    with engine.connect() as connection:
        # The driver's own cursor: SQLAlchemy's rows double the time.
        cursor = connection.execute(query).cursor
        while rows := cursor.fetchmany(_ROWS_AT_ONCE):
            yield [pa.array(column) for column in zip(*rows, strict=True)]


def in_columns_of_sqlite(engine: Engine, query: Select[tuple[Any, ...]]) -> Chunks:
    """The same from an SQLite file through Arrow's driver: three times as fast, as it creates no Python objects."""
    text = str(query.compile(engine, compile_kwargs={"literal_binds": True}))
    with adbc_driver_sqlite.dbapi.connect(f"{engine.url.database}?mode=ro") as connection:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {_WAIT_FOR_WRITER_MS}")
        with connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.BATCH_ROWS.value: str(_ROWS_AT_ONCE)})
            cursor.execute(text)
            yield from (batch.columns for batch in cursor.fetch_record_batch())


def in_columns_of_postgresql(engine: Engine, query: Select[tuple[Any, ...]]) -> Chunks:
    """The same from PostgreSQL through Arrow's driver, if that is installed: a sixth of the processor time."""
    if find_spec("adbc_driver_postgresql") is None:
        yield from in_columns(engine, query)
        return
    import adbc_driver_postgresql.dbapi

    # Of a dialect in which "%" is just that: no driver fills in values here.
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    text = str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with adbc_driver_postgresql.dbapi.connect(address) as connection, connection.cursor() as cursor:
        cursor.execute(text)
        yield from (batch.columns for batch in cursor.fetch_record_batch())


_READERS: dict[str, Reader] = {"sqlite": in_columns_of_sqlite, "postgresql": in_columns_of_postgresql}
