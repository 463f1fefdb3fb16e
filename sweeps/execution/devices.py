"""Which GPUs a worker trains on, where several sweeps run on one machine."""

from __future__ import annotations

import math
import os
import platform
import re
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from filelock import Timeout

from kdas.errors import UserError
from kdas.files.cache import cache_root
from kdas.files.locks import is_held, locked

# Ray's own variable, which CUDA reads when it is first used.
VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them."""
    named = [each.strip() for each in os.environ.get(VISIBLE, "").split(",") if each.strip()]
    return named or [str(number) for number in range(torch.cuda.device_count())]


class Lease:
    """The GPUs of this worker, one lock file in the cache for each. They are free again when the process dies.

    Each sweep has a Ray of its own, and each Ray hands out the first GPUs first. Two sweeps would train on the same
    ones while others are idle.

    Args: worker: a name that no other worker on this machine has.
    """

    def __init__(self, worker: str) -> None:
        self._worker, self._held = worker, ExitStack()
        self._is_taken = False

    def take(self, gpus: float, devices: Sequence[str]) -> None:
        """Use the GPUs that the fewest workers use, and Ray's choice among equals. Later calls change nothing.

        Call it before CUDA is used. Without locks, Ray's choice stays.

        Args: gpus: how many the worker needs; devices: those of the sweep.
        """
        number = math.ceil(gpus)
        if self._is_taken or not 0 < number < len(devices):
            return
        self._is_taken = True
        with suppress(OSError, UserError, Timeout):
            folder = cache_root() / "running" / platform.node() / "gpus"
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / "choice.lock", timeout_s=10):
                chosen = self._least_used(folder, devices)[:number]
                for device in chosen:
                    self._held.enter_context(locked(_lease(folder, device, self._worker), timeout_s=1))
            os.environ[VISIBLE] = ",".join(chosen)

    def give_back(self) -> None:
        self._held.close()

    def _least_used(self, folder: Path, devices: Sequence[str]) -> list[str]:
        of_ray = os.environ.get(VISIBLE, "").split(",")
        return sorted(devices, key=lambda device: (_num_workers(folder, device), device not in of_ray))


def _num_workers(folder: Path, device: str) -> int:
    """How many workers use a GPU. Removes the files of those that are gone; the caller holds the choice."""
    number = 0
    for path in folder.glob(_lease(folder, device, "*").name):
        if is_held(path):
            number += 1
        else:
            path.unlink(missing_ok=True)
    return number


def _lease(folder: Path, device: str, worker: str) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9-]', '-', device)}.{worker}.lock"
