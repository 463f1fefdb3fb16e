"""Where an MLflow tracking database is: its URL or its file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import sqlalchemy as sa
from sqlalchemy import Engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from kdas.errors import UserError, alike


def engine_of(uri: str) -> tuple[Engine, str]:
    """The engine of a database, and its name in messages, without a password.

    Raises: UserError: if it is a tracking server, a file that is missing, or an address that cannot be opened.
    """
    if uri.startswith(("http://", "https://", "databricks")):
        scheme, mark, rest = uri.partition("://")
        raise UserError(
            f"{scheme}{mark}{rest.rpartition('@')[2]}: expected a database, got a tracking server, which sends only"
            " one run and metric at a time. Give the server's --backend-store-uri, for example"
            " postgresql://user@host/mlflow."
        )
    if uri.startswith("file:"):
        uri = url2pathname(urlsplit(uri).path)
    if "://" not in uri:
        return _sqlite(Path(uri)), uri
    try:
        url = make_url(uri)
        if url.get_backend_name() == "sqlite":
            return _sqlite(_file_of(url, uri)), uri
        if url.drivername == "postgresql" and find_spec("psycopg2") is None:  # SQLAlchemy's default, an older one
            url = url.set(drivername="postgresql+psycopg")
        return sa.create_engine(url), url.set(query={}).render_as_string(hide_password=True)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        scheme = uri.partition("://")[0]
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{scheme}://...: cannot be opened ({reason}). Give sqlite:///file, or another SQLAlchemy URL whose"
            " driver is installed."
        ) from error


def _file_of(url: URL, uri: str) -> Path:
    if not url.database or url.database == ":memory:":
        raise UserError(f"{uri}: the file name is missing. Write sqlite:///mlflow.db, or sqlite:////absolute/path.")
    return Path(url.database)


def _sqlite(path: Path) -> Engine:
    if path.is_dir():
        if any(path.glob("*/meta.yaml")):
            raise UserError(
                f"{path}: expected a database, got the file store of an earlier MLflow. Convert it with mlflow"
                f" migrate-filestore --source {path} --target sqlite:///mlflow.db, and give mlflow.db."
            )
        raise UserError(
            f"{path}: expected a database file, got a folder. Give the file that MLflow writes, or its URL."
        )
    if not path.is_file() and (path.exists() or path.is_symlink()):
        kind = "a device" if path.exists() else "a link that leads nowhere"
        raise UserError(f"{path}: expected a database file, got {kind}. Give the file that MLflow writes, or its URL.")
    if not path.is_file():
        near = alike(path.name, [entry.name for entry in path.parent.glob("*.db")])
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Give the file that MLflow writes, or its URL."
        raise UserError(f"{path}: no such file. {hint}")
    # A plain path would create a missing file.
    return sa.create_engine(URL.create("sqlite", database=path.resolve().as_uri(), query={"mode": "ro", "uri": "true"}))
