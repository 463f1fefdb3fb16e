"""The SQLite file beside the sweeps, which stores MLflow's runs unless another store is named."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from alembic.util import CommandError
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from kdas.errors import UserError, make_command
from kdas.files.cache import replaced_whole, writable_folder
from kdas.files.locks import locked
from sweeps.mlflow_view.address import embedded_database, is_embedded
from sweeps.record.paths import ARTIFACTS, runs_root

# Tables that MLflow creates while it changes another, and leaves behind if it is stopped.
_HALF_DONE = "_alembic_tmp_%"
# Otherwise the first use of a new file would print every migration of its schema, and a failure its traceback. We
# report failures in one line.
for _name in ("alembic", "mlflow.store.db.utils"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def opened(uri: str, experiment: str) -> MlflowClient:
    """A client of the store at `uri`. Args: experiment: the one whose artifacts are stored beside the sweeps.

    Raises: UserError: if the embedded file is incomplete or not MLflow's; errors of MLflow pass through.
    """
    if not is_embedded(uri):
        return MlflowClient(tracking_uri=uri)
    # One connection for each use: a permanent one would keep writing to the file after somebody deleted it.
    os.environ.setdefault("MLFLOW_SQLALCHEMYSTORE_POOLCLASS", "NullPool")
    path = embedded_database()
    ensure(path)
    try:
        with _alone(path):
            client = MlflowClient(tracking_uri=uri)
            _take_artifacts_along(path, experiment)
    except (CommandError, MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        if "is locked" in str(error):
            raise
        raise _unusable(path, error) from error
    return client


def ensure(path: Path) -> None:
    """Create the file if it is missing. Others see it only once it is complete.

    Raises: UserError: if the file exists and is incomplete or not MLflow's.
    """
    _refuse_question_mark(path)
    if not _has_content(path):
        with _alone(path):
            if not _has_content(path):  # another sweep may have made it meanwhile
                with replaced_whole(path) as temporary:
                    _create(temporary)
    check(path)


def _refuse_question_mark(path: Path) -> None:
    """In the address of a database `?` ends the path, so MLflow would fill another file, outside this folder."""
    if "?" in str(path):
        raise UserError(
            f"RUNS_DIR={path.parent}: expected a path without '?', which MLflow's database cannot have. Rename the"
            " folder, or name another store with MLFLOW_TRACKING_URI."
        )


def _create(path: Path) -> None:
    MlflowClient(tracking_uri=f"sqlite:///{path}")


def check(path: Path) -> None:
    """Check an existing file. Raises: UserError: if it is not MLflow's, or MLflow was stopped while creating it."""
    if not _has_content(path):
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            half_done = database.execute("select 1 from sqlite_master where name like ?", (_HALF_DONE,)).fetchall()
    except sqlite3.DatabaseError as error:
        if "is locked" in str(error):
            raise
        raise _unusable(path, error) from error
    if half_done:
        raise _unusable(path, "MLflow was stopped while it created the tables")


def artifact_location() -> str:
    """The URI of the folder in which the embedded store keeps the files of runs."""
    return (runs_root() / ARTIFACTS).as_uri()


def _unusable(path: Path, reason: object) -> UserError:
    first = str(reason).strip().split("\n", 1)[0]
    return UserError(
        f"{path}: expected a complete MLflow database, got an unusable one ({first}). Move the file away;"
        f" {make_command('sync', '<sweep>')} fills a new one."
    )


def _has_content(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let only one process create the file: if two do, MLflow leaves it incomplete."""
    with locked(writable_folder(path.parent) / ".mlflow.lock", variable="RUNS_DIR"):
        yield


def _take_artifacts_along(path: Path, experiment: str) -> None:
    """Update the paths of the runs' files, which MLflow stores in full, if the folder of all sweeps was moved."""
    with closing(sqlite3.connect(path, timeout=20)) as database, database:
        named = database.execute("select artifact_location from experiments where name = ?", (experiment,)).fetchone()
        before, now = named[0] if named else None, artifact_location()
        if before and before != now and before.startswith("file:") and before.endswith(f"/{ARTIFACTS}"):
            moved = "? || substr({0}, ?) where substr({0}, 1, ?) = ?"
            given = (now, len(before) + 1, len(before), before)
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                database.execute(f"update {table} set {column} = {moved.format(column)}", given)  # noqa: S608
