"""The machine of a run of the benchmarks, and the faster precision on it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import torch

from kdas import models
from kdas.compute.device import hardware_name, synchronize
from kdas.files.control_groups import num_cpus

# A processor without bfloat16 instructions emulates them many times slower.
_STUDENT, _NUM_IMAGES, _TIMED_RUNS = "vgg8", 16, 3
_PACKAGES = ("kdas-sweeps", "torch", "torchvision", "numpy", "pillow")


def facts(device: str, threads: int) -> dict[str, str | int]:
    """What must be quoted with a figure: machine, versions and commit."""
    return {
        "hardware": hardware_name(device),
        "device": device,
        "system": platform.platform(terse=True),
        "cpus": num_cpus(),
        "threads": threads,
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in _PACKAGES},
        "commit": commit(),
    }


def load() -> float:
    """The system load over the last minute; 0 if the system does not report it."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0


def commit() -> str:
    """The checked out commit, with `-dirty` if tracked files differ from it; `unknown` outside a checkout."""
    command = ["git", "describe", "--always", "--abbrev=12", "--dirty", "--exclude=*"]
    try:
        printed = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return printed.stdout.strip()


def best_precision(device: str) -> str:
    """`bfloat16` if a student's forward pass is faster in it, else `float32`."""
    return min(("float32", "bfloat16"), key=lambda precision: _forward_s(precision, device))


@torch.no_grad()
def _forward_s(precision: str, device: str) -> float:
    """Wall seconds of a forward pass: the least of a few runs after a warm-up run."""
    student = models.create(_STUDENT, 100).eval().to(device).to(memory_format=torch.channels_last)
    images = torch.zeros(_NUM_IMAGES, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    least_s = float("inf")
    for number in range(1 + _TIMED_RUNS):
        began = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
            student(images)
        synchronize(device)
        if number:
            least_s = min(least_s, time.perf_counter() - began)
    return least_s
