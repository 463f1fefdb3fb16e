"""How many trials run at once, and the resources of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kdas.errors import UserError
from kdas.files.control_groups import num_cpus
from sweeps.file.blocks import ResourcesConfig

_RAY_DIGITS = 10_000


@dataclass(frozen=True)
class Slots:
    """How many trials run at once, on how many machines, with which resources each.

    `is_fixed`: the sweep file says how many.
    """

    trials_at_once: int
    cpus_per_trial: int
    gpus_per_trial: float
    num_machines: int = 1
    is_fixed: bool = False

    @property
    def _on_a_machine(self) -> int:
        """The largest number of trials that run on one machine."""
        return -(-self.trials_at_once // self.num_machines)

    @property
    def num_cotenants(self) -> int:
        """Other trials that may share a trial's device."""
        per_device = self._on_a_machine if not self.gpus_per_trial else int(1 / self.gpus_per_trial)
        return max(0, min(per_device, self._on_a_machine) - 1)

    @property
    def share_of_device(self) -> float:
        """The fraction of a GPU, or of a machine, that one trial holds."""
        return self.gpus_per_trial or min(1.0, self.num_machines / self.trials_at_once)

    def widened(self) -> Slots:
        """Slots with twice the resources for each trial, so half as many trials; no more than a machine has."""
        cpus = min(2 * self.cpus_per_trial, self._on_a_machine * self.cpus_per_trial)
        gpus = min(2 * self.gpus_per_trial, max(1.0, self.gpus_per_trial))
        return Slots(max(1, self.trials_at_once // 2), cpus, gpus, self.num_machines)


def slots_for(device: str, threads: int, resources: ResourcesConfig) -> Slots:
    """The slots of this machine.

    Args: device: resolved; threads: CPU threads of a trial.
    Raises: UserError: if a trial needs more threads or devices than there are.
    """
    if device == "mps":  # one device, which Ray cannot divide
        _check_threads(threads, num_cpus(), "this machine")
        return Slots(resources.trials_at_once or 1, threads, 0.0, is_fixed=resources.trials_at_once is not None)
    available = torch.cuda.device_count() if device == "cuda" else 0
    return slots_of_machines([(num_cpus(), available)], device, threads, resources, where="this machine")


def slots_of_machines(
    held: Sequence[tuple[int, float]], device: str, threads: int, resources: ResourcesConfig, *, where: str
) -> Slots:
    """The slots of several machines. Args: held: cores and GPUs of each. Raises: UserError: if a trial fits on none."""
    _check_threads(threads, max((cores for cores, _ in held), default=0), where)
    gpus = gpus_of_trial(device, resources)
    most = max((available for _, available in held), default=0)
    if gpus > most:
        raise UserError(
            f"resources.gpus_per_trial: expected at most {most:g}, the GPUs of {where}, got {gpus:g}. Lower it."
        )
    if device == "cuda" and not gpus:
        raise UserError(
            "resources.gpus_per_trial: 0 hides the GPU from the trial. Give a fraction, or set device: cpu."
        )
    fit = [number for cores, available in held if (number := num_trials(cores, available, threads, gpus))]
    at_once = resources.trials_at_once or max(1, sum(fit))
    return Slots(at_once, threads, gpus, max(1, len(fit)), is_fixed=resources.trials_at_once is not None)


def gpus_of_trial(device: str, resources: ResourcesConfig) -> float:
    """The GPUs of a trial, maybe a fraction of one. `trials_per_gpu: auto` counts as 1 until it is measured."""
    if resources.gpus_per_trial is not None:
        return resources.gpus_per_trial
    if device != "cuda" or not isinstance(resources.trials_per_gpu, int):
        return float(device == "cuda")
    # Ray keeps four digits of a fraction. Rounded up, the last trial would not fit.
    return _RAY_DIGITS // resources.trials_per_gpu / _RAY_DIGITS


def num_trials(cores: int, gpus: float, cpus_per_trial: int, gpus_per_trial: float) -> int:
    """How many trials a machine with these cores and GPUs holds at once."""
    by_cores = cores // cpus_per_trial
    return min(by_cores, int(gpus / gpus_per_trial)) if gpus_per_trial else by_cores


def _check_threads(threads: int, cores: int, where: str) -> None:
    if threads > cores:
        raise UserError(f"threads: expected at most {cores}, the cores of {where}, got {threads}. Lower it.")
