"""The command that shows MLflow's page."""

from __future__ import annotations

import os
import select
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from kdas.errors import UserError
from sweeps import __main__ as program
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view import serving
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from tests.sweeps.conftest import train_on_paper

# Answers like MLflow's server, prints as much, and has a child as that has workers.
SERVER = """
import http.server, subprocess, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("INFO: many words", flush=True)
print(child.pid, file=open("child", "w"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


def test_nothing_of_the_server_is_printed_and_none_of_its_processes_outlives_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with serving.serving("sqlite:///x.db", serving.free_port(0), [sys.executable, "-c", SERVER]) as server:
        child = os.pidfd_open(int((tmp_path / "child").read_text()))
    assert server.poll() is not None and capfd.readouterr() == ("", "")
    # Readable once the process has ended.
    assert select.select([child], [], [], 60)[0] == [child]
    os.close(child)


def test_a_server_that_does_not_start_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:secret@host/mlflow")
    failing = [sys.executable, "-c", "print('Traceback'); print('no access to ann:secret@host'); raise SystemExit(1)"]
    with (
        pytest.raises(UserError, match=r"^MLflow's page did not start: no access to host\. Correct this and"),
        serving.serving("x", serving.free_port(0), failing),
    ):
        pass


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as other:
        other.bind((serving.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        result = CliRunner().invoke(program.app, ["ui", "--port", str(port)])
    assert str(result.exception) == f"PORT={port}: cannot be opened (Address already in use). Try PORT={port + 1}."


@pytest.mark.parametrize(
    ("environment", "is_shown"), [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True)]
)
def test_a_browser_is_opened_only_where_there_is_a_display(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], is_shown: bool
) -> None:
    shown: list[str] = []
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(webbrowser, "open", shown.append)
    serving.show("http://x", environment)
    assert shown == (["http://x"] if is_shown else [])


def test_a_browser_that_fails_is_no_failure_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str) -> None:
        raise webbrowser.Error("no browser")

    monkeypatch.setattr(webbrowser, "open", fail)
    serving.show("http://x", {"DISPLAY": ":0"})


@pytest.fixture
def recorded(directory: SweepDirectory, jobs: list[Job], spec: SweepSpec, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A trial of a recorded sweep that was uploaded."""
    monkeypatch.setenv("RUNS_DIR", str(directory.path.parent))
    keep_spec(spec, directory)
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    MlflowView(directory).update()
    return jobs[0]


def test_links_of_the_sweep_are_printed_with_the_address_of_the_server(
    recorded: Job, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = TrackingState(directory)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@host/")
    state = TrackingState(directory)
    state.record(links={"sweep": "#/a", "search": "#/b"})
    printed = CliRunner().invoke(program.app, ["ui", "tiny"], catch_exceptions=False).output
    assert "secret" not in printed
    assert [line.partition("http")[2] for line in printed.splitlines()] == ["://host", "://host/#/a", "://host/#/b"]


def test_a_sweep_without_links_is_told_how_to_get_them(
    recorded: Job, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    printed = CliRunner().invoke(program.app, ["ui"], catch_exceptions=False).output
    assert "tiny: no links yet. Write them with: make sync NAME=tiny" in printed


def test_runs_of_a_killed_sweep_do_not_appear_to_be_running_once_the_page_is_opened(
    recorded: Job, database: str, directory: SweepDirectory
) -> None:
    with directory.locked():
        assert serving.left_open([directory]) == []
    program._close_runs_of_killed([directory])
    state, client = TrackingState(directory), MlflowClient(database)
    for run in (state.facts["parent"], state.trials[recorded.trial_id].run):
        assert client.get_run(run).info.status == "KILLED"
    assert serving.left_open([directory]) == []


def counted(name: str, calls: list[str]) -> Callable[..., Any]:
    """A method of MLflow's client that notes its calls."""
    call = getattr(MlflowClient, name)

    def noted(*given: Any, **named: Any) -> Any:
        calls.append(name)
        return call(*given, **named)

    return noted


def test_syncing_a_sweep_sends_what_is_missing_exactly_once(
    recorded: Job, directory: SweepDirectory, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    for name in ("create_run", "log_batch"):
        monkeypatch.setattr(MlflowClient, name, counted(name, sent))
    train_on_paper(directory, jobs[1], [0.5, 0.9])
    for _ in range(2):
        done = CliRunner().invoke(program.app, ["sync", "tiny"], catch_exceptions=False)
        assert done.exit_code == 0 and "tiny: all runs are in MLflow" in done.output
    assert sent.count("create_run") == 1
    before = len(sent)
    CliRunner().invoke(program.app, ["sync", "tiny"], catch_exceptions=False)
    assert len(sent) == before
