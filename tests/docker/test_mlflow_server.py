"""The start of MLflow's server in its container."""

from __future__ import annotations

import configparser
import importlib.util
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest

PROGRAM = Path(__file__).parents[2] / "docker" / "entrypoints" / "mlflow_server.py"
NAMES = ("database_password", "mlflow_admin_password", "mlflow_sweeps_password", "mlflow_flask_key")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, with secrets, and a database of users that is an SQLite file."""
    spec = importlib.util.spec_from_file_location("mlflow_server", PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "SECRETS", tmp_path)
    monkeypatch.setattr(module, "CONFIG", tmp_path / "auth.ini")
    for name in NAMES:
        (tmp_path / name).write_text(f"{name}-of-the-test\n")
    return module


def test_a_password_may_contain_any_character(server: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "database_password").write_text("p@ss/w%rd:#\n")
    assert server.database("mlflow") == "postgresql+psycopg://mlflow:p%40ss%2Fw%25rd%3A%23@database:5432/mlflow"
    config = configparser.ConfigParser()
    config.read_string(server.auth_config())
    assert config["mlflow"]["database_uri"] == server.database("mlflow_auth")
    assert int(config["mlflow"]["auth_cache_ttl_seconds"]) == 60


def test_a_missing_secret_is_told_with_its_remedy(server: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "mlflow_flask_key").unlink()
    with pytest.raises(SystemExit, match=r"mlflow_flask_key: cannot be read: No such file .*docker/make-secrets"):
        server.secret("mlflow_flask_key")
    (tmp_path / "mlflow_flask_key").write_text("\n")
    with pytest.raises(SystemExit, match="is empty"):
        server.secret("mlflow_flask_key")


def test_secrets_reach_the_server_in_its_environment_and_a_file_of_its_own(
    server: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process's command line can be read by everybody on the machine."""
    started: list[list[str]] = []
    monkeypatch.setattr(server.os, "execvp", lambda program, words: started.append(words))
    monkeypatch.setattr(server, "keep_users", lambda: None)
    monkeypatch.setattr(server.sys, "argv", ["mlflow_server.py", "--port=5000"])
    server.CONFIG.write_text("of an earlier start")
    with patch.dict(os.environ):
        server.main()
        environment = {**os.environ}
    assert started == [["mlflow", "server", "--port=5000"]]
    assert stat.S_IMODE(server.CONFIG.stat().st_mode) == 0o600
    assert environment["MLFLOW_FLASK_SERVER_SECRET_KEY"] == "mlflow_flask_key-of-the-test"
    assert environment["MLFLOW_BACKEND_STORE_URI"] == server.database("mlflow")


# In a process of its own: MLflow's server, once imported, changes Flask for all that follows.
TWO_STARTS = """
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("mlflow_server", sys.argv[1])
server = importlib.util.module_from_spec(spec)
spec.loader.exec_module(server)
server.SECRETS = Path(sys.argv[2])
server.database = lambda name: f"sqlite:///{sys.argv[2]}/users.db"
config = server.SECRETS / "auth.ini"
config.write_text(server.auth_config())
os.environ["MLFLOW_AUTH_CONFIG_PATH"] = str(config)
server.keep_users()
(server.SECRETS / "mlflow_sweeps_password").write_text("another-long-password")
server.keep_users()
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore
users = SqlAlchemyStore()
users.init_db(server.database("mlflow_auth"))
assert users.authenticate_user("admin", "mlflow_admin_password-of-the-test")
assert users.authenticate_user("sweeps", "another-long-password")
assert not users.authenticate_user("sweeps", "mlflow_sweeps_password-of-the-test")
assert users.get_user("admin").is_admin and not users.get_user("sweeps").is_admin
print("both starts kept the users")
"""


def test_users_get_the_passwords_of_their_files_at_every_start(server: ModuleType, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TWO_STARTS, str(PROGRAM), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout.endswith("both starts kept the users\n"), done.stderr
