"""Joins a Ray cluster that is already running, counts its slots, and checks each of its machines."""

from __future__ import annotations

import hashlib
import logging
import platform
import socket
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sweeps.command import ending
from sweeps.command.options import cluster_address

# Before Ray: sets the environment variables that Ray reads when it is imported.
from sweeps.execution import ray_setup  # noqa: F401  # isort: skip

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import kdas
from kdas.compute import device as devices
from kdas.errors import UserError
from sweeps.engine.slots import Slots, slots_of_machines
from sweeps.file.blocks import ResourcesConfig

# How long a machine may take to start a process and answer.
ANSWER_WITHIN_S = 120


def join() -> None:
    """Connect to the cluster, unless connected. Raises: UserError: if nothing answers, or the cluster refuses us."""
    if ray.is_initialized():
        return
    if cluster_address().startswith("ray://"):
        raise UserError(
            f"CLUSTER={cluster_address()}: expected the address of the head, host:6379, got an address for Ray's"
            " client. Give the head as host:port."
        )
    host, _, port = cluster_address().rpartition(":")
    if cluster_address() != "auto":
        try:  # Ray itself would retry for minutes
            socket.create_connection((host, int(port) if port.isdigit() else 0), timeout=10).close()
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UserError(
                f"CLUSTER={cluster_address()}: no answer ({reason}). Give the head as host:port."
                " Start one with: ray start --head."
            ) from error
    try:
        ray.init(address=cluster_address(), logging_level=logging.ERROR)
        ending.heed_requests()  # Ray has set handlers of its own
    except Exception as error:  # Ray raises many kinds of exceptions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"CLUSTER={cluster_address()}: cannot join the cluster: {reason}. Check that this machine has the head's"
            " token (.ray/auth_token in the home folder, or RAY_AUTH_TOKEN) and the same versions of Ray and Python."
        ) from error
    ending.check()  # in case Ray has dropped a KeyboardInterrupt


def _machines() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def slots_of_cluster(device: str, threads: int, resources: ResourcesConfig) -> Slots:
    """The slots of all machines together.

    Args: device: as in the sweep file.
    Raises: UserError: if a trial fits on none of them, or the cluster has GPUs and this machine has none.
    """
    held = [(int(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0))) for node in _machines()]
    if device == "auto" and devices.resolve(device) == "cpu" and any(gpus for _, gpus in held):
        raise UserError(
            "device: auto: the cluster has GPUs, but this machine has none to train the teacher and measure prices on."
            " Start the sweep on a machine with a GPU, or set device: cpu."
        )
    return slots_of_machines(
        held, devices.resolve(device), threads, resources, where=f"a machine in the cluster at {cluster_address()}"
    )


def has_room_for(slots: Slots) -> bool:
    """Whether an otherwise empty machine of the cluster could hold a trial of these slots."""
    return any(
        node["Resources"].get("CPU", 0) >= slots.cpus_per_trial
        and node["Resources"].get("GPU", 0) >= slots.gpus_per_trial
        for node in _machines()
    )


def check_machines(folder: Path, paths: Sequence[str], device: str) -> None:
    """Check that every machine can train what this one plans.

    Args: folder: that of the sweep; paths: files and folders that trials read; device: where they train.
    Raises: UserError: names the first machine that cannot, and the reason.
    """
    asked = []
    for node in _machines():
        if not node["Resources"].get("CPU"):
            continue
        here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(problem_of_machine).options(num_cpus=0, max_retries=0, scheduling_strategy=here)
        asked.append((node["NodeManagerHostname"], look.remote(str(folder), list(paths), device, _code())))
    for host, answer in asked:
        try:
            problem = ray.get(answer, timeout=ANSWER_WITHIN_S)
        except Exception as error:  # noqa: BLE001 (the message quotes it, whatever it is)
            cause = str(error).strip().splitlines()[-1]
            problem = f"cannot run this program: {cause}. Install it there as on this machine"
        if problem:
            raise UserError(f"CLUSTER={cluster_address()}: the machine {host} {problem}.")


def problem_of_machine(folder: str, paths: list[str], device: str, code: str) -> str:
    """Runs on each machine. Returns: what keeps it from training, with the remedy; empty if it can train."""
    if not Path(folder).is_dir():
        return f"cannot see {folder}. Set RUNS_DIR to a path that all machines share"
    for path in paths:
        if not Path(path).exists():
            return f"cannot see {path}. Put a copy there, or use a path that all machines share"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "has no CUDA device. Remove it from the cluster, or set device: cpu"
    return (
        ""
        if _code() == code
        else f"has different code or versions ({_code()}; this machine: {code}). Install the same ones"
    )


def _code() -> str:
    """The versions that a trial's numbers depend on, and a hash of the trainer."""
    digest = hashlib.blake2b(digest_size=4)
    root = Path(kdas.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"kdas {digest.hexdigest()}, torch {version('torch')}, Python {platform.python_version()}"
