"""The address of the MLflow store that shows a sweep, with and without its passwords."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from sweeps.record.paths import DATABASE, runs_root

# How the record names the SQLite file beside the sweeps, so that both can be moved together.
EMBEDDED = "embedded"
# The experiment that holds the runs of all sweeps, unless the user names another.
EXPERIMENT = "kdas-sweeps"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an embedded SQLite file beside the sweeps."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{embedded_database()}"


def is_server(uri: str) -> bool:
    """Whether an address means a tracking server, not a database."""
    return uri.startswith(("http://", "https://"))


def experiment_name() -> str:
    """`MLFLOW_EXPERIMENT_NAME`, else `EXPERIMENT`."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT


def embedded_database() -> Path:
    """The SQLite file beside the sweeps."""
    return runs_root() / DATABASE


def is_embedded(uri: str) -> bool:
    """Whether an address means the SQLite file beside the sweeps."""
    return uri in (EMBEDDED, f"sqlite:///{embedded_database()}")


def without_secrets(uri: str) -> str:
    """An address without the parts that may be secret: user, password and options."""
    scheme, mark, rest = uri.partition("://")
    if rest.startswith("/"):  # a file, whose path may contain any character
        return uri
    # The last "@" ends the password, which may contain others.
    rest = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}{mark}{rest}"


def recorded_address(uri: str) -> str:
    """An address as the record stores it: without secrets, and unchanged if the folder moves."""
    return EMBEDDED if is_embedded(uri) else without_secrets(uri)


def is_same_store(recorded: str, current: str) -> bool:
    """Whether two addresses of the record may mean the same store.

    Earlier versions recorded the path of the embedded file. If the folder has moved since, that path is outdated. A
    lookup of the runs then shows whether the file contains them.
    """
    return recorded == current or (
        current == EMBEDDED and recorded.startswith("sqlite:///") and recorded.endswith(f"/{DATABASE}")
    )


def redacted(text: str) -> str:
    """A message of MLflow or a database driver without the user and password of the tracking address."""
    uri = tracking_uri()
    rest = uri.partition("://")[2]
    secret = "" if rest.startswith("/") else rest.rpartition("@")[0]
    if not secret:
        return text
    password = secret.partition(":")[2]
    for part in (f"{secret}@", unquote(f"{secret}@"), password, unquote(password)):
        text = text.replace(part, "") if part else text
    return text
