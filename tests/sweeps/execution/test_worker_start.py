"""A worker of Ray starts without importing Ray twice."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from ray._private.runtime_env.context import RuntimeEnvContext

from sweeps.execution import worker_start

WORKER = "import json, os, sys; print(json.dumps([os.getpid(), sys.argv[1:], os.environ.get('KDAS_GIVEN')]))"


@pytest.fixture
def worker(tmp_path: Path) -> Path:
    path = tmp_path / "worker.py"
    path.write_text(WORKER, encoding="utf-8")
    return path


def test_the_worker_takes_the_place_of_its_starter_and_gets_what_ray_says(worker: Path) -> None:
    given = [str(worker), "--node-id=7", "--language=PYTHON", "--worker-preload-modules=os"]
    with subprocess.Popen(
        [sys.executable, worker_start.__file__, *given],
        stdout=subprocess.PIPE,
        env={**os.environ, "KDAS_GIVEN": "passed on"},
    ) as started:
        said, _ = started.communicate()
    assert json.loads(said) == [started.pid, ["--node-id=7", "--worker-preload-modules=os"], "passed on"]


def test_the_starter_loads_nothing_of_ray_or_of_this_project(worker: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", worker_start.__file__, str(worker)],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded and not loaded & {"ray", "kdas", "sweeps"}


def test_an_environment_that_a_user_asks_ray_for_is_set_up_by_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(name: str, **options: object) -> None:
        ran.append(name)
        raise SystemExit

    monkeypatch.setattr(runpy, "run_module", run)
    monkeypatch.setattr(os, "execv", lambda program, words: ran.append("at once"))
    asked = RuntimeEnvContext(env_vars={"A": "b"}).serialize()
    with pytest.raises(SystemExit):
        worker_start.main(["--serialized-runtime-env-context", asked, "worker.py"])
    worker_start.main(["--serialized-runtime-env-context", "{}", "worker.py"])
    assert ran == ["ray._private.workers.setup_worker", "at once"]
