"""A sweep on a cluster of two nodes, each with its own processes; one node is killed in the middle."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from kdas.files.checkpoint import load_newest_intact
from kdas.records import Status
from sweeps.record.directory import SweepDirectory
from sweeps.record.trial import Recorded
from tests.sweeps.conftest import TINY

# Few trials, with epochs so long that each gets its checkpoint.
SPEC = """
dataset: digits
validation: 0.2
teacher: {model: resnet8, epochs: 2}
student: resnet56
epochs: 6
evaluations: 18
baselines: {plain_kd: full}
search: {START_RATE: {low: 0.3, high: 0.9}}
seeds: 2
budget: {configurations: 1}
target: 0.5
scheduler: none
confirm: false
"""
WAIT_S = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "killpg"), reason="nodes are ended by their process groups"),
    pytest.mark.timeout(900),
]


@contextmanager
def node(environment: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
    """`ray start`, as a process group that is killed at the end; `ray stop` would also stop other people's nodes."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", *words]
    started = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        kill(started)
        if "--temp-dir" in words:
            shutil.rmtree(words[words.index("--temp-dir") + 1], ignore_errors=True)


def kill(started: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def rows(directory: SweepDirectory) -> dict[str, list[Recorded]]:
    """The rows of the trials that have not ended."""
    return {each.path.name: each.rows() for each in directory.trials() if each.status is Status.RUNNING}


def epochs_saved(directory: SweepDirectory) -> dict[str, int]:
    """The epoch of the newest checkpoint of each running trial; a quick epoch does not get a checkpoint of its own."""
    with warnings.catch_warnings():
        # A checkpoint may be missing while it is replaced; the previous one then exists.
        warnings.simplefilter("ignore")
        saved = {each.path.name: load_newest_intact(each.checkpoint) for each in directory.trials()}
    return {trial_id: state["epoch"] for trial_id, state in saved.items() if state is not None}


def wait_for(what: str, is_there: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not is_there():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.1)


def test_killing_a_node_loses_no_epoch_that_a_checkpoint_holds(tmp_path: Path, cache_of_the_tests: Path) -> None:
    spec, runs, port = tmp_path / "clustered.yaml", tmp_path / "runs", free_port()
    spec.write_text(SPEC, encoding="utf-8")
    runs.mkdir()
    shared = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"} | {
        "RUNS_DIR": str(runs),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    shared.pop("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", None)
    # Each machine has its own data and teacher bank.
    caches = [{"KDAS_CACHE": str(cache)} for cache in (cache_of_the_tests, tmp_path / "a", tmp_path / "b")]
    of_driver, of_head, of_other = ({**shared, **cache} for cache in caches)
    # The paths of Ray's sockets must be short.
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--temp-dir", f"/tmp/ray-{port}"]
    with node(of_head, *head), node_at(of_other, port) as other:
        command = [sys.executable, "-m", "sweeps", "sweep", str(spec), "--cluster", f"127.0.0.1:{port}"]
        stranger = subprocess.run(
            command,
            env=of_driver | {"RAY_AUTH_TOKEN": secrets.token_hex(32)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (stranger.returncode, stranger.stdout) == (2, "")
        assert re.fullmatch(r"CLUSTER=\S+: the cluster refuses this machine's token\. .+\.\n", stranger.stderr)
        printed = tmp_path / "printed"
        with printed.open("w") as out:
            sweep = subprocess.Popen(command, env=of_driver, stdout=out, stderr=subprocess.STDOUT)
        directory = SweepDirectory(runs / "clustered")
        try:
            wait_for(
                "two trials in their third epoch",
                lambda: sum(bool(each) and each[-1].row.epoch >= 3 for each in rows(directory).values()) == 2,
            )
            kill(other)
            saved, before = epochs_saved(directory), rows(directory)
            assert sweep.wait(timeout=600) == 0, printed.read_text()
        finally:
            sweep.kill()
            sweep.wait()
    text = printed.read_text()
    assert "2 trials at once on 2 machines" in text
    assert len(re.findall("its worker was lost", text)) == 1
    assert "(raylet)" not in text
    assert "\033" not in text
    trials = pd.read_parquet(directory.path / "trials.parquet")
    assert trials["status"].isin(["reached", "budget"]).all()
    assert len(trials) == 4
    assert saved
    for trial_id, epoch in saved.items():
        after = {each.row.step: each for each in directory.trial(trial_id).rows()}
        kept = [each for each in before.get(trial_id, []) if each.row.epoch <= epoch]
        assert kept or trial_id not in before
        # The same rows with the same times of writing, so they were not trained again.
        assert [after[each.row.step] for each in kept] == kept


@contextmanager
def node_at(environment: dict[str, str], port: int) -> Iterator[subprocess.Popen[str]]:
    """Start a node once the head is up; yields when the node has joined."""
    wait_for("the head", lambda: answers(port))
    with node(environment, f"--address=127.0.0.1:{port}") as joined:
        look = "import ray, sys; ray.init(log_to_driver=False); sys.exit(len(ray.nodes()) != 2)"
        ask = partial(subprocess.run, [sys.executable, "-c", look], capture_output=True, check=False)
        address = {"RAY_ADDRESS": f"127.0.0.1:{port}"}
        wait_for("the other node", lambda: ask(env=environment | address).returncode == 0)
        yield joined


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_a_cluster_that_asks_for_no_token_is_refused(tmp_path: Path) -> None:
    port = free_port()
    is_open = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    head = ["--head", f"--port={port}", "--include-dashboard=false", "--temp-dir", f"/tmp/ray-{port}"]
    command = [sys.executable, "-m", "sweeps", "sweep", str(TINY), "--cluster", f"127.0.0.1:{port}"]
    given = {**os.environ, "RUNS_DIR": str(tmp_path), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with node(is_open, *head):

        def refused() -> subprocess.CompletedProcess[str]:
            return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

        wait_for("the head", lambda: "no answer" not in refused().stderr)
        answer = refused()
    assert (answer.returncode, answer.stdout) == (2, "")
    assert re.fullmatch(r"CLUSTER=\S+: it asks for no token, .+RAY_AUTH_MODE=disabled here\.\n", answer.stderr)
