"""The device a trial runs on."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import torch

from kdas.records import UserError


def resolve(requested: str) -> str:
    """`auto` becomes the best device there is; a device that is not there is refused."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(name for name, is_there in present.items() if is_there)
    if not present[requested]:
        raise UserError(f"device: {requested!r} is not there on this machine. Use auto or cpu.")
    return requested


def num_cpus() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use for a CPU, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def repeatable(threads: int) -> None:
    """Settings of the whole process under which the same trial gives the same curve."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # Or float32 would mean ten bits of mantissa in convolutions.
    torch.backends.cudnn.allow_tf32 = False


def synchronize(device: str) -> None:
    """Wait until the device has done all it was given, so that a clock reads what was really spent."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def hardware_name(device: str) -> str:
    """What prices are valid for: the accelerator's or the processor's name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
