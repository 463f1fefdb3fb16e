"""A tracking server as a group would run one: MLflow with users and passwords, on PostgreSQL, all on this machine.

Both are plain processes. PostgreSQL needs Debian's package `postgresql`; it listens on a socket file alone, and refuses
to be root's, so as root it is started as the user `postgres`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.processes import processor_s

ADMIN, PASSWORD = "admin", "the-admins-password"
_STARTS_WITHIN_S = 600.0


@dataclass
class Server:
    """MLflow's server. `uri` is its address with the administrator's password, `database` that of its store."""

    folder: Path
    database: str
    users: str
    num_workers: int
    port: int
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def uri(self) -> str:
        return self.uri_of(ADMIN, PASSWORD)

    def uri_of(self, user: str, password: str, port: int | None = None) -> str:
        """The address for a user. Args: port: of a proxy before the server."""
        return f"http://{user}:{password}@127.0.0.1:{port or self.port}"

    def administer(self, what: str, **content: str) -> None:
        """Ask as administrator for a change of users or permissions. Args: what: path of the request, after `/api/`."""
        login = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{what}",
            json.dumps(content).encode(),
            {"Content-Type": "application/json", "Authorization": f"Basic {login}"},
        )
        urllib.request.urlopen(request, timeout=120).close()  # noqa: S310 (the address is this machine's)

    def start(self) -> None:
        """Start the server and wait until it answers. Raises: RuntimeError: if it ends instead, with its last lines."""
        config = self.folder / "auth.ini"
        config.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {self.users}\nadmin_username = {ADMIN}\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            # Otherwise each request hashes its password, which takes 0.4 s of a processor.
            "auth_cache_ttl_seconds = 60\n",
            encoding="utf-8",
        )
        environment = os.environ | {
            "MLFLOW_BACKEND_STORE_URI": self.database,
            "MLFLOW_AUTH_CONFIG_PATH": str(config),
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "only for this machine",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", str(self.num_workers)]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                lines = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace").splitlines()
                raise RuntimeError("MLflow's server did not start:\n" + "\n".join(lines[-20:]))
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server and all of its processes, as a lost machine would."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def processor_s(self) -> float:
        """Processor seconds of all of its processes so far."""
        return 0.0 if self._process is None else processor_s(self._process.pid)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=20) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@dataclass
class PostgreSQL:
    """A cluster of databases in a new folder."""

    folder: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, *options: str) -> None:
        """Create the cluster and start it. Args: options: settings such as `fsync=off`."""
        # In another encoding MLflow's driver gives bytes instead of texts.
        initdb = [
            "initdb",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-U",
            "postgres",
            "-A",
            "trust",
            str(self.folder / "data"),
        ]
        subprocess.run(
            [_program(initdb[0]), *initdb[1:]], check=True, capture_output=True, cwd=self.folder, **_as_postgres()
        )
        settings = ("listen_addresses=", f"unix_socket_directories={self.folder}", *options)
        command = [_program("postgres"), "-D", str(self.folder / "data")]
        for setting in settings:
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder, **_as_postgres()
            )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while self._run("pg_isready").returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text(encoding="utf-8"))
            time.sleep(0.1)

    def create(self, name: str) -> str:
        """Create a database. Returns: its address for SQLAlchemy with psycopg."""
        self._run("createdb", name).check_returncode()
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def stop(self) -> None:
        """End it without waiting for those who are connected."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()

    def processor_s(self) -> float:
        """Processor seconds of all of its processes so far."""
        return 0.0 if self._process is None else processor_s(self._process.pid)

    def _run(self, program: str, *words: str) -> subprocess.CompletedProcess[bytes]:
        command = [_program(program), "-h", str(self.folder), "-U", "postgres", *words]
        return subprocess.run(command, check=False, capture_output=True, cwd=self.folder)


@contextmanager
def running_server(*options: str, num_workers: int = 2) -> Iterator[tuple[Server, PostgreSQL]]:
    """The server within the block, and its database. Args: options: settings of PostgreSQL."""
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as other:
        # A folder of its own for each, since they may belong to different users.
        database = PostgreSQL(Path(name))
        if os.getuid() == 0:
            shutil.chown(name, "postgres", "postgres")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        try:
            database.start(*options)
            server = Server(Path(other), database.create("mlflow"), database.create("users"), num_workers, port)
            try:
                server.start()
                yield server, database
            finally:
                server.kill()
        finally:
            database.stop()


def _as_postgres() -> dict[str, Any]:
    return {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's programs in a folder for each version. Raises: RuntimeError: if it is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) if not places else str(places[-1])
    if found is None:
        raise RuntimeError(f"{name} is missing: install Debian's package postgresql")
    return found
