"""SIGTERM is Ctrl-C for the driver, the front passes it on, and a driver does not outlive its front."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.command import front
from sweeps.command.options import cluster_address
from tests.places import ROOT

DRIVER = """
import os, sys, time
from sweeps.command import ending
ending.heed_requests()
ending.end_with_parent()
try:
    with ending.deferred():
        print(os.getpid(), flush=True)
        while True:
            time.sleep(0.01)
            if os.environ.get("CHECKS", "1") == "1":
                ending.check()
except KeyboardInterrupt:
    print("tables", flush=True)
    sys.exit(ending.exit_code())
"""


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        with process:  # waits, and closes its pipe
            process.kill()


def start(started: list[subprocess.Popen[str]], code: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A program that has printed its first line, which is left out."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    started.append(process)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_driver_that_is_asked_to_end_writes_its_tables(
    started: list[subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    driver = start(started, DRIVER)
    driver.send_signal(number)
    assert (driver.communicate()[0], driver.returncode) == ("tables\n", code)


def test_a_second_ctrl_c_does_not_wait_for_a_safe_moment(started: list[subprocess.Popen[str]]) -> None:
    driver = start(started, DRIVER, CHECKS="0")
    while driver.poll() is None:  # two that come at once count as one
        driver.send_signal(signal.SIGINT)
        try:
            driver.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
    # A further one that comes while Python itself is ending kills it, which shells show as 130 too.
    assert driver.returncode in (130, -signal.SIGINT)


FRONT = """
import os, sys
from pathlib import Path
from sweeps.command import front
Path(sys.argv[1], "kept.py").write_text(os.environ["DRIVER"])
os.environ["PYTHONPATH"] += os.pathsep + sys.argv[1]
print("front", flush=True)
sys.exit(front._python("kept"))
"""


def test_the_front_passes_sigterm_on_and_ends_with_the_driver_s_code(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(started, FRONT, str(tmp_path), DRIVER=DRIVER)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    process.terminate()
    assert (process.communicate()[0], process.returncode) == ("tables\n", 143)


def test_a_driver_whose_front_is_killed_ends_as_by_sigterm(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start(started, FRONT, str(tmp_path), DRIVER=DRIVER)
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    process.kill()
    assert process.stdout.read() == "tables\n"  # to the end of the file: the driver holds it open no longer


def test_a_child_that_a_signal_ends_has_the_code_that_a_shell_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert front._python("ends") == 137


def test_a_killed_sweep_is_told_of_with_the_way_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(front, "_python", lambda *words: 137)
    monkeypatch.delenv("RUNS_DIR", raising=False)
    with pytest.raises(SystemExit, match=r"^137$"):
        front.sweep("mine", settings=["seeds=3"])
    assert capsys.readouterr().err == (
        "The sweep's process was killed (signal 9). Finished trials are kept. Resume with: make sweep NAME=mine"
        ' SET="seeds=3"\n'
    )


def test_ctrl_c_during_the_last_upload_is_not_success(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "measure.json").write_text("{}")
    monkeypatch.setattr(front, "_python", lambda module, command, *words: 130 if command == "sync" else 0)
    with pytest.raises(SystemExit, match=r"^130$"):
        front.report("mine")
    assert "not uploaded" not in capsys.readouterr().err


@pytest.mark.parametrize(("variable", "address"), [("local", ""), ("", ""), ("first:6379", "first:6379")])
def test_only_an_address_names_a_cluster(monkeypatch: pytest.MonkeyPatch, variable: str, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster_address() == address
