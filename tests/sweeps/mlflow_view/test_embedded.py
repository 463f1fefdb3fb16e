"""The SQLite file beside the sweeps."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.mlflow_view import embedded


def test_two_sweeps_that_start_at_once_create_one_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, created = tmp_path / "mlflow.db", []
    both = threading.Barrier(2)

    def create(temporary: Path) -> None:
        created.append(temporary)
        assert not path.exists()
        with closing(sqlite3.connect(temporary)) as database, database:
            database.execute("create table runs (run_uuid)")

    def start() -> None:
        both.wait()
        embedded.ensure(path)

    monkeypatch.setattr(embedded, "_create", create)
    sweeps = [threading.Thread(target=start) for _ in range(2)]
    for each in sweeps:
        each.start()
    for each in sweeps:
        each.join()
    assert len(created) == 1 and path.stat().st_size > 0
    assert sorted(each.name for each in tmp_path.iterdir()) == [".mlflow.lock", "mlflow.db"]


def test_a_creation_that_fails_leaves_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(temporary: Path) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(embedded, "_create", fail)
    with pytest.raises(OSError, match="disk full"):
        embedded.ensure(tmp_path / "mlflow.db")
    assert not (tmp_path / "mlflow.db").exists()


def test_a_path_that_mlflow_would_cut_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "which?"
    monkeypatch.setenv("RUNS_DIR", str(runs))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(UserError, match=r"RUNS_DIR=.*which\?: expected a path without '\?'.*Rename the folder"):
        embedded.opened(f"sqlite:///{runs}/mlflow.db", "kdas-sweeps")
    assert not list(tmp_path.iterdir())


def half_migrated(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("create table experiments (experiment_id)")
        database.execute("create table _alembic_tmp_experiments (experiment_id)")


def test_a_broken_database_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    path = tmp_path / "mlflow.db"
    for broken, reason in (
        (half_migrated, "MLflow was stopped while it created the tables"),
        (lambda path: path.write_text("no database at all " * 99), "file is not a database"),
    ):
        path.unlink(missing_ok=True)
        broken(path)
        with pytest.raises(UserError, match=rf"mlflow\.db: expected .*{reason}\)\. Move the file away; make sync"):
            embedded.opened(f"sqlite:///{path}", "kdas-sweeps")
