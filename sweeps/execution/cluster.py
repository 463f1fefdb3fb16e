"""Joins a Ray cluster that is already running: its slots, and which of its machines train for a sweep."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

# Before Ray: sets the environment variables that Ray reads when it is imported.
from sweeps.execution import ray_setup  # isort: skip

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from kdas.compute import device as devices
from kdas.errors import UserError
from sweeps.command import ending
from sweeps.command.options import cluster_address
from sweeps.engine.slots import Slots, num_trials, slots_of_machines
from sweeps.execution.node_report import Needs, Report, report
from sweeps.execution.probe import check_joins
from sweeps.file.blocks import ResourcesConfig

# How long a machine may take to start a process and answer.
ANSWER_WITHIN_S = 120
_LOOKS_EVERY_S = 5.0

Machine = dict[str, Any]


def join() -> None:
    """Connect to the cluster, unless connected. Raises: UserError: if nothing answers, or the cluster refuses us."""
    if ray.is_initialized():
        return
    check_joins()
    try:
        ray.init(address=cluster_address(), logging_level=logging.ERROR)
        ray_setup.hold_chatter()
        ending.heed_requests()  # Ray has set handlers of its own
    except Exception as error:  # Ray raises many kinds of exceptions
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"CLUSTER={cluster_address()}: cannot join the cluster: {reason}. Use the same versions of Ray and"
            " Python on both machines."
        ) from error
    ending.check()  # in case Ray has dropped a KeyboardInterrupt


def _machines() -> list[Machine]:
    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _holds(node: Machine) -> tuple[int, float]:
    """The cores and GPUs of a machine."""
    return int(node["Resources"].get("CPU", 0)), float(node["Resources"].get("GPU", 0))


def slots_of_cluster(device: str, threads: int, resources: ResourcesConfig) -> Slots:
    """The slots of all machines together.

    Args: device: as in the sweep file.
    Raises: UserError: if a trial fits on none of them, or the cluster has GPUs and this machine has none.
    """
    held = [_holds(node) for node in _machines()]
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
        cores >= slots.cpus_per_trial and gpus >= slots.gpus_per_trial for cores, gpus in map(_holds, _machines())
    )


class Members:
    """The machines that train for a sweep. They may come and go while it runs.

    Those that are there at the start must all be able to train. One that joins later and cannot is left alone.

    Args: tell: prints a line.
    Raises: UserError: names the first machine that cannot train what this one plans, and the reason.
    """

    def __init__(self, needs: Needs, slots: Slots, tell: Callable[[str], None]) -> None:
        self._needs, self._slots = needs, slots
        self._kind = devices.hardware_name(needs.device)
        self._used: dict[str, Machine] = {}
        self._left_alone: set[str] = set()
        self._asked: dict[str, tuple[Machine, Any, float]] = {}
        self._looked_at = time.monotonic()
        for node in _machines():
            self._ask(node)
        for node, answer, _ in self._asked.values():
            about = _answer(answer, ANSWER_WITHIN_S)
            if about.problem:
                raise UserError(f"CLUSTER={cluster_address()}: the machine {_name(node)} {about.problem}.")
            self._used[node["NodeID"]] = node
            if remark := self._remark(node, about):
                tell(remark)
        self._asked = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Ray's ids of the machines."""
        return tuple(sorted(self._used))

    def share(self) -> int:
        """How many trials may run at once: as many as fit on the machines, or as the sweep file says."""
        if self._slots.is_fixed and self._used:
            return self._slots.trials_at_once
        cpus, gpus = self._slots.cpus_per_trial, self._slots.gpus_per_trial
        return sum(num_trials(*_holds(node), cpus, gpus) for node in self._used.values())

    def news(self) -> list[str]:
        """A line for each machine that has joined, cannot train, or is gone; looks every 5 seconds at most."""
        if time.monotonic() - self._looked_at < _LOOKS_EVERY_S:
            return []
        self._looked_at = time.monotonic()
        alive = {node["NodeID"]: node for node in _machines()}
        said = []
        for lost in [node for node_id, node in self._used.items() if node_id not in alive]:
            del self._used[lost["NodeID"]]
            said.append(f"The machine {_name(lost)} is gone; its trials resume elsewhere. {self._at_once()}")
        self._asked = {node_id: asked for node_id, asked in self._asked.items() if node_id in alive}
        for node_id in alive.keys() - self._used.keys() - self._left_alone - self._asked.keys():
            self._ask(alive[node_id])
        return said + [line for node_id in list(self._asked) for line in self._heard(node_id)]

    def _ask(self, node: Machine) -> None:
        """Let the machine look at itself. One without cores trains nothing: it may be the driver's."""
        if not _holds(node)[0]:
            self._left_alone.add(node["NodeID"])
            return
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        look = ray.remote(report).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        self._asked[node["NodeID"]] = (node, look.remote(self._needs), time.monotonic())

    def _heard(self, node_id: str) -> list[str]:
        """What a machine that has joined answered, if it did."""
        node, answer, since = self._asked[node_id]
        is_there, _ = ray.wait([answer], timeout=0)
        if not is_there and time.monotonic() - since < ANSWER_WITHIN_S:
            return []
        del self._asked[node_id]
        about = _answer(answer, 0.1)
        if about.problem:
            self._left_alone.add(node_id)
            return [f"The machine {_name(node)} has joined and is not used: it {about.problem}."]
        self._used[node_id] = node
        lines = [f"The machine {_name(node)} has joined. {self._at_once()}", self._remark(node, about)]
        return [line for line in lines if line]

    def _remark(self, node: Machine, about: Report) -> str:
        """What users should know of a machine that trains; empty if there is nothing."""
        if about.kind == self._kind:
            return ""
        return (
            f"The machine {_name(node)} is of another kind ({about.kind}; this one: {self._kind}). Wall times differ"
            " there, reference seconds do not; curves are equal up to rounding."
        )

    def _at_once(self) -> str:
        return f"Trials at once: {self.share()}." if self._used else "No machine is left to train on; waiting for one."


def _name(node: Machine) -> str:
    """The machine as its user knows it: host names may repeat, as in containers."""
    host, address = node["NodeManagerHostname"], node["NodeManagerAddress"]
    return host if host == address else f"{host} ({address})"


def _answer(answer: Any, timeout_s: float) -> Report:
    try:
        about: Report = ray.get(answer, timeout=timeout_s)
    except Exception as error:  # noqa: BLE001 (the message quotes it, whatever it is)
        cause = (str(error).strip() or type(error).__name__).splitlines()[-1].rstrip(".")
        return Report(f"cannot run this program: {cause}. Install it there as on this machine")
    return about
