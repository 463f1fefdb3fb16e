"""Serves MLflow's page on this machine, without what its processes print, and names the links that are prepared."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO

from kdas.errors import UserError
from sweeps.command.options import another_port
from sweeps.mlflow_view.address import redacted
from sweeps.mlflow_view.state import TrackingState
from sweeps.record.directory import SweepDirectory

HOST = "127.0.0.1"
# MLflow's jobs evaluate language models. One process is enough for one reader.
_QUIET = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
_COMMAND = (sys.executable, "-m", "mlflow", "server", "--host", HOST, "--workers", "1", "--port")
_STARTS_WITHIN_S = 180.0
_LINKS = {
    "sweep": "the sweep, and how to compare",
    "finalists": "the finalists side by side",
    "curves": "accuracy over reference seconds",
    "search": "the searched settings",
}


def free_port(port: int) -> int:
    """The port, or for 0 any that is free. Raises: UserError: if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            reason = f"PORT={port}: cannot be opened ({error.strerror})"
            raise UserError(f"{reason}. Try PORT={another_port(port)}.") from error
        return int(probe.getsockname()[1])


@contextmanager
def serving(uri: str, port: int, command: Sequence[str] = _COMMAND) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the store at `uri` within the block, and end all processes of the server after it.

    Raises: UserError: if the server ends before it answers, with the last line that it printed.
    """
    # Not an argument: every user of the machine sees those, and the address may hold a password.
    environment = {**_QUIET, **os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    with tempfile.TemporaryFile() as printed:
        server = subprocess.Popen(
            [*command, str(port)],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait_for(server, port, printed)
            yield server
        finally:
            _end(server)


def links(directory: SweepDirectory) -> dict[str, str]:
    """The part of each prepared link of a sweep after the server's address, by what it shows."""
    found = TrackingState(directory).facts.get("links") or {}
    return {words: found[kind] for kind, words in _LINKS.items() if kind in found}


def left_open(directories: Sequence[SweepDirectory]) -> list[SweepDirectory]:
    """The sweeps whose runs appear to be running though no process runs them: they were killed."""
    return [each for each in directories if TrackingState(each).facts.get("running") and not each.holder()]


def newest(directories: Sequence[SweepDirectory]) -> SweepDirectory | None:
    """The sweep that was uploaded last; None if none was."""
    uploaded = [each for each in directories if each.tracking_file.exists()]
    return max(uploaded, key=lambda each: each.tracking_file.stat().st_mtime, default=None)


def show(url: str, environment: Mapping[str, str] = os.environ) -> None:
    """Open an address in the user's browser if there is a display. Without one, or a browser, nothing happens."""
    if sys.platform == "darwin" or environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"):
        with suppress(Exception):
            webbrowser.open(url)


def _wait_for(server: subprocess.Popen[bytes], port: int, printed: IO[bytes]) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            printed.seek(0)
            lines = printed.read().decode(errors="replace").split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")
            raise UserError(f"MLflow's page did not start: {redacted(last)}. Correct this and run make ui again.")
        time.sleep(0.1)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server with the processes that it has started, which may outlive it."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, request)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)
