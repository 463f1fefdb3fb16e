"""Starts MLflow's tracking server with its two users: `admin`, and `sweeps`, as which sweeps upload their runs.

Passwords are read from files and never stand in the command line, which every process of the machine can read. To
change one, replace its file and start the server again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

SECRETS = Path("/run/secrets")
CONFIG = Path("/tmp/mlflow-auth.ini")  # noqa: S108 (a memory file system of this container alone)


def secret(name: str) -> str:
    """The content of a secret. Exits if it is missing or empty."""
    try:
        text = (SECRETS / name).read_text(encoding="utf-8").strip()
    except OSError as error:
        sys.exit(f"{SECRETS / name}: cannot be read: {error.strerror}. Create the secrets with docker/make-secrets.")
    return text or sys.exit(f"{SECRETS / name}: is empty. Remove the file, and run docker/make-secrets.")


def database(name: str) -> str:
    """The address of one of the two databases."""
    return f"postgresql+psycopg://mlflow:{quote(secret('database_password'), safe='')}@database:5432/{name}"


def auth_config() -> str:
    """MLflow's file of settings for its users. Without the cache, each request costs 0.4 s of processor time."""
    address = database("mlflow_auth").replace("%", "%%")
    return (
        "[mlflow]\n"
        "default_permission = READ\n"
        f"database_uri = {address}\n"
        "admin_username = admin\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 60\n"
    )


def keep_users() -> None:
    """Create both users, and give them the passwords of their files."""
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore()
    store.init_db(database("mlflow_auth"))
    for name in ("admin", "sweeps"):
        password = secret(f"mlflow_{name}_password")
        if not store.has_user(name):
            store.create_user(name, password, is_admin=name == "admin")
        elif not store.authenticate_user(name, password):
            store.update_user(name, password=password)


def main() -> None:
    """Prepare the users, then become the server."""
    CONFIG.unlink(missing_ok=True)
    with os.fdopen(os.open(CONFIG, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(auth_config())
    os.environ |= {
        "MLFLOW_AUTH_CONFIG_PATH": str(CONFIG),
        "MLFLOW_AUTH_ADMIN_PASSWORD": secret("mlflow_admin_password"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret("mlflow_flask_key"),
        "MLFLOW_BACKEND_STORE_URI": database("mlflow"),
    }
    keep_users()
    os.execvp("mlflow", ["mlflow", "server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
