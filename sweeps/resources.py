"""How many trials a machine holds at once, and what each is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kdas.device import num_cpus
from kdas.records import UserError
from sweeps.settings import ResourcesConfig


@dataclass(frozen=True)
class Slots:
    """How many trials run at once, and what each is given."""

    trials_at_once: int
    cpus_per_trial: int
    gpus_per_trial: float

    @property
    def num_cotenants(self) -> int:
        """Other trials that may share a trial's device."""
        per_device = self.trials_at_once if not self.gpus_per_trial else int(1 / self.gpus_per_trial)
        return max(0, min(per_device, self.trials_at_once) - 1)

    @property
    def share_of_device(self) -> float:
        """What part of a GPU, or of this machine, one trial holds."""
        return self.gpus_per_trial or 1 / self.trials_at_once

    def widened(self) -> Slots:
        """With twice the room for a trial, so half as many beside it; no more than there is."""
        cpus = min(2 * self.cpus_per_trial, self.trials_at_once * self.cpus_per_trial)
        gpus = min(2 * self.gpus_per_trial, max(1.0, self.gpus_per_trial))
        return Slots(max(1, self.trials_at_once // 2), cpus, gpus)


def slots_for(device: str, threads: int, resources: ResourcesConfig) -> Slots:
    """The slots of this machine.

    Args: device: resolved; threads: CPU threads of a trial.
    Raises: UserError: if a trial wants more threads or devices than there are.
    """
    cores = num_cpus()
    if threads > cores:
        raise UserError(f"threads: {threads} is more than the {cores} cores of this machine. Lower it.")
    if device == "mps":  # one device, which Ray does not know how to share out
        return Slots(resources.trials_at_once or 1, threads, 0.0)
    available = torch.cuda.device_count() if device == "cuda" else 0
    gpus = resources.gpus_per_trial if resources.gpus_per_trial is not None else float(device == "cuda")
    if gpus > available:
        raise UserError(f"resources.gpus_per_trial: {gpus:g} is more than the {available} GPUs here. Lower it.")
    if device == "cuda" and not gpus:
        raise UserError("resources.gpus_per_trial: 0 hides the GPU from its trial. Give a fraction, or device: cpu.")
    held = min(cores // threads, int(available / gpus)) if gpus else cores // threads
    return Slots(resources.trials_at_once or max(1, held), threads, gpus)
