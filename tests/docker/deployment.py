"""`make test-deploy`: builds the image, runs a sweep on containers, loses a worker and MLflow, wipes and restores.

Needs root, Debian's packages of containers, 30 GB of disk and a registry of Python packages, but none of images: the
base is made of Debian's packages. All of it is in a temporary folder, which is removed at the end. With
CONTAINERS_STORAGE_CONF, podman's own variable, images are kept there, and a second run builds only what has changed.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("podman", "runc", "netavark", "aardvark-dns", "catatonit", "iptables", "mmdebstrap")
BASE, IMAGE, POSTGRES = "localhost/base:test", "localhost/kdas-sweeps:test", "localhost/postgres:test"
ULIMITS = ["nofile=20000:20000", "nproc=30000:30000"]
NAME, NUM_TRIALS = "many", 30
# Workers are not in the network of the database.
LOOK_UP = "import socket; socket.getaddrinfo('database', 5432)"
SHAKE_HANDS = """
import socket, ssl
known = ssl.create_default_context(cafile="/run/secrets/tls_ca")
known.set_alpn_protocols(["h2"])
print(known.wrap_socket(socket.create_connection(("head", 6379)), server_hostname="172.30.99.10").version())
"""
# The tables once more, from the database by Arrow's driver, where MLflow's server may reach it.
READ_BACK = f"""
import sys
sys.path.insert(0, "/opt/entrypoints")
import adbc_driver_postgresql, mlflow_server
from analysis.mlflow_store import load_store
print(len(load_store(mlflow_server.database("mlflow"), sweep="{NAME}").trials))
"""
PROJECT = "kdas-sweeps"

pytestmark = pytest.mark.timeout(3600)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Host:
    """A machine with podman, and a copy of what a user needs to start the containers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.docker = folder, folder / "docker"
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "RAY_", "KDAS_"))},
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": os.environ.get("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf")),
            "TMPDIR": str(folder),
            "CONTAINERS": "podman",
            "COMPOSE": str(Path(sys.executable).with_name("podman-compose")),
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])

    def prepare(self) -> None:
        """Write the settings of podman, without systemd, and of the containers."""
        (self.folder / "networks").mkdir()
        # crun needs another kind of control groups than some machines have; without systemd nobody restarts or logs.
        (self.folder / "containers.conf").write_text(
            f"[containers]\ndefault_ulimits = {json.dumps(ULIMITS)}\n"
            f'[network]\nnetwork_config_dir = "{self.folder}/networks"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )
        graph = f'graphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n'
        (self.folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{graph}')
        ours = shutil.ignore_patterns("secrets", "files", "backups", ".env")
        shutil.copytree(ROOT / "docker", self.docker, ignore=ours)
        shutil.copy(ROOT / "Makefile", self.folder)
        settings = {"IMAGE": IMAGE, "POSTGRES_IMAGE": POSTGRES, "MLFLOW_PORT": self.port}
        settings |= {"WORKERS": 2, "WORKER_CPUS": 1, "JOB_CPUS": 1}
        (self.docker / ".env").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        (self.docker / "files").mkdir()
        tiny = (ROOT / "tests" / "sweeps" / "tiny.yaml").read_text()
        many = tiny.replace("budget: {configurations: 2}", f"budget: {{configurations: {NUM_TRIALS // 2 - 3}}}")
        assert many != tiny
        (self.docker / "files" / f"{NAME}.yaml").write_text(many)
        # Longer, or all of its trials would be those of the other sweep.
        few = tiny.replace("\nepochs: 3", "\nepochs: 4")
        assert few != tiny
        (self.docker / "files" / "few.yaml").write_text(few)

    def run(self, *words: str | Path, check: bool = True) -> str:
        """Run a command in the folder. Returns: what it prints, errors too."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        text = done.stdout.decode(errors="replace")
        assert not check or done.returncode == 0, f"{' '.join(map(str, words))}:\n{text[-4000:]}"
        return text

    def read(self, path: str) -> bytes:
        """A file of a worker."""
        command = ["podman", "exec", f"{PROJECT}_worker_1", "cat", path]
        return subprocess.run(command, env=self.environment, capture_output=True, check=True).stdout

    def build(self, commit: str) -> None:
        """Build both images, from a base of Debian's packages."""
        if BASE not in self.run("podman", "images", "--format", "{{.Repository}}:{{.Tag}}"):
            packages = "ca-certificates,python3,python3-venv"
            self.run("mmdebstrap", "--variant=minbase", f"--include={packages}", "bookworm", self.folder / "base.tar")
            self.run("podman", "import", self.folder / "base.tar", BASE)
            (self.folder / "base.tar").unlink()
        options = ["--network=host", f"--build-arg=BASE={BASE}", *(f"--ulimit={limit}" for limit in ULIMITS)]
        self.run("podman", "build", *options, f"--tag={POSTGRES}", ROOT / "tests" / "docker" / "postgres")
        say("building the image")
        # Certificates: this machine may reach its registry through one of its own.
        options += ["--volume=/etc/ssl/certs:/etc/ssl/certs:ro", f"--build-arg=COMMIT={commit}", f"--tag={IMAGE}"]
        self.run("podman", "build", *options, f"--file={ROOT / 'docker' / 'Dockerfile'}", ROOT)
        say(f"images: {self.run('podman', 'images', '--format', '{{.Repository}} {{.Size}}').strip()}")

    def up(self) -> None:
        self.run("make", "up")
        self.wait_for_mlflow()

    def wait_for_mlflow(self) -> None:
        def answers() -> bool:
            with contextlib.suppress(OSError):
                return self.ask("health") == b"OK"
            return False

        wait_for("MLflow", answers)

    def ask(self, path: str, content: dict[str, Any] | None = None) -> bytes:
        """What MLflow's server answers to the user of sweeps."""
        password = (self.docker / "secrets" / "mlflow_sweeps_password").read_text()
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}", data)
        request.add_header("Authorization", f"Basic {base64.b64encode(f'sweeps:{password}'.encode()).decode()}")
        request.add_header("Content-Type", "application/json")
        return bytes(urllib.request.urlopen(request, timeout=60).read())

    def runs(self) -> dict[str, dict[str, Any]]:
        """MLflow's runs, by their ids."""
        experiment = json.loads(self.ask("api/2.0/mlflow/experiments/get-by-name?experiment_name=kdas-sweeps"))
        asked = {"experiment_ids": [experiment["experiment"]["experiment_id"]], "max_results": 1000}
        found = json.loads(self.ask("api/2.0/mlflow/runs/search", asked))["runs"]
        for run in found:  # the database gives them in any order
            for listed in (*run["data"].values(), run["inputs"].get("dataset_inputs", [])):
                listed.sort(key=json.dumps)
        return {run["info"]["run_id"]: run for run in found}

    def remove(self) -> None:
        """Remove every container, network and image; whoever named a storage keeps the images."""
        self.run("make", "down", check=False)
        self.run("podman", "rm", "--all", "--force", "--depend", check=False)
        self.run("podman", "volume", "prune", "--force", check=False)
        self.run("podman", "network", "prune", "--force", check=False)
        if "CONTAINERS_STORAGE_CONF" not in os.environ:
            self.run("podman", "rmi", "--all", "--force", check=False)
            self.run("umount", "--lazy", self.folder / "graph" / "overlay", check=False)  # podman leaves it


def wait_for(what: str, is_there: Callable[[], bool], within_s: float = 600) -> None:
    until = time.monotonic() + within_s
    while not is_there():
        assert time.monotonic() < until, f"{what} did not come within {within_s:.0f} s"
        time.sleep(1)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    missing = [name for name in PROGRAMS if not (shutil.which(name) or Path("/usr/lib/podman", name).exists())]
    if missing:
        pytest.fail(f"{', '.join(missing)}: missing. Install: apt-get install {' '.join([*PROGRAMS, 'buildah'])}")
    folder = Path(tempfile.mkdtemp(prefix="kdas-deploy-"))
    host = Host(folder)
    host.prepare()
    try:
        host.build(host.run("git", "-C", ROOT, "rev-parse", "HEAD").strip())
        yield host
    finally:
        host.remove()
        shutil.rmtree(folder)


def test_a_sweep_on_containers_outlives_a_worker_mlflow_and_its_disks(host: Host) -> None:
    commit = host.run("git", "-C", ROOT, "rev-parse", "HEAD").strip()
    say("starting the containers")
    host.up()
    check_that_nothing_is_open(host)
    say("running a sweep, losing a worker and MLflow")
    run_with_losses(host)
    host.run("make", "sync-on", f"NAME={NAME}")
    trials, answer, runs = trials_of(host), host.read(f"/data/runs/{NAME}/answer.json"), host.runs()
    check_what_was_recorded(trials, runs, commit)
    assert host.run("podman", "exec", f"{PROJECT}_mlflow_1", "python", "-c", READ_BACK).split()[-1] == str(NUM_TRIALS)
    say("backing up, wiping and restoring")
    host.run("docker/backup", "backup")
    host.run("make", "down")
    host.run("podman", "volume", "rm", *(f"{PROJECT}_{name}" for name in ("database", "artifacts", "runs", "cache")))
    host.up()
    assert f"{NAME}/trials" not in host.run("podman", "exec", f"{PROJECT}_worker_1", "find", "/data/runs")
    host.run("docker/restore", "backup")
    host.wait_for_mlflow()
    assert host.runs() == runs
    assert host.read(f"/data/runs/{NAME}/answer.json") == answer
    pd.testing.assert_frame_equal(trials_of(host), trials)
    parent = next(run for run in runs.values() if "mlflow.parentRunId" not in tags_of(run))
    kept_at = parent["info"]["artifact_uri"].replace("mlflow-artifacts:/", "api/2.0/mlflow-artifacts/artifacts/")
    assert host.ask(f"{kept_at}/answer.json") == answer
    host.run("make", "report-on", f"NAME={NAME}")
    assert json.loads(host.read(f"/data/runs/{NAME}/answer.json")) == json.loads(answer)


def test_nodes_and_mlflow_encrypt_what_they_say(host: Host) -> None:
    say("running a sweep with TLS")
    host.run("make", "down")
    host.run("make", "up", "WITH=tls")
    printed = host.run("make", "sweep-on", "WITH=tls", "NAME=few.yaml")
    assert "2 trials at once on 2 machines" in printed, printed
    assert "all runs are in MLflow at https://mlflow:5000" in printed, printed
    assert "TLSv1.3" in host.run("podman", "exec", f"{PROJECT}_worker_1", "python", "-c", SHAKE_HANDS)


def run_with_losses(host: Host) -> None:
    """Run the sweep; kill a worker and MLflow's server when 6 trials have ended, and start both when 12 have."""
    printed = host.folder / "printed"
    with printed.open("wb") as file:
        sweep = subprocess.Popen(
            ["make", "sweep-on", f"NAME={NAME}.yaml"],
            cwd=host.folder,
            env=host.environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )

    def has_ended(num_trials: int) -> bool:
        text = printed.read_text(errors="replace")
        assert sweep.poll() is None, text
        return any(int(done) >= num_trials for done in re.findall(rf"\[(\d+) of {NUM_TRIALS}", text))

    lost = [f"{PROJECT}_worker_2", f"{PROJECT}_mlflow_1"]
    try:
        wait_for("the sixth trial", lambda: has_ended(6), 900)
        host.run("podman", "kill", *lost)
        wait_for("the twelfth trial", lambda: has_ended(12))
        host.run("podman", "start", *lost)
        assert sweep.wait(timeout=900) == 0, printed.read_text(errors="replace")
        host.wait_for_mlflow()
    finally:
        sweep.kill()
        sweep.wait()
    text = printed.read_text(errors="replace")
    assert "2 trials at once on 2 machines" in text
    assert "its worker was lost" in text
    assert "\x1b" not in text
    assert "MPLCONFIGDIR" not in text  # which matplotlib asks for where it finds no folder to write to


def trials_of(host: Host) -> pd.DataFrame:
    return pd.read_parquet(io.BytesIO(host.read(f"/data/runs/{NAME}/trials.parquet")))


def tags_of(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def check_what_was_recorded(trials: pd.DataFrame, runs: dict[str, dict[str, Any]], commit: str) -> None:
    assert len(trials) == NUM_TRIALS
    assert trials["status"].isin(["reached", "budget"]).all()
    tags = [tags_of(run) for run in runs.values()]
    assert sorted(each["kdas.trial_id"] for each in tags if "kdas.trial_id" in each) == sorted(trials["trial_id"])
    assert len(runs) == NUM_TRIALS + 1
    assert {run["info"]["status"] for run in runs.values()} == {"FINISHED"}
    assert {each["mlflow.source.git.commit"] for each in tags} == {commit}
    # Both workers have trained.
    assert len({each["kdas.host"] for each in tags if "kdas.trial_id" in each}) >= 2


def check_that_nothing_is_open(host: Host) -> None:
    """Only MLflow's page is published, on this machine alone and with a password; no secret can be looked up."""
    published = host.run("podman", "ps", "--format", "{{.Ports}}").split()
    assert published == [f"127.0.0.1:{host.port}->5000/tcp"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{host.port}/api/2.0/mlflow/experiments/get?experiment_id=0")
    containers = host.run("podman", "ps", "--quiet").split()
    shown = host.run("podman", "inspect", *containers)
    shown += "".join(host.run("podman", "top", each, "args") for each in containers)
    for secret in (host.docker / "secrets").iterdir():
        assert secret.read_text() not in shown, f"{secret.name} is visible"
    alone = host.run("podman", "exec", f"{PROJECT}_worker_1", "python", "-c", LOOK_UP, check=False)
    assert "gaierror" in alone
