"""The device a trial runs on."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Activations are large blocks; in pages of 2 MB they cause 500 times fewer page faults. PyTorch reads this at its first
# allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

import torch

from kdas.errors import UserError
from kdas.files.control_groups import num_cpus

# Parameters of glibc's mallopt, and a size above any block of a training step.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_NEVER_BYTES = 2**30


def resolve(requested: str) -> str:
    """The requested device, or for `auto` the best one. Raises: UserError: if this machine does not have it."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if requested == "auto":
        return next(name for name, is_there in present.items() if is_there)
    if not present[requested]:
        raise UserError(f"device: this machine has no {requested!r}. Use auto or cpu.")
    return requested


def compiler() -> str | None:
    """The C++ compiler that torch.compile would use for a CPU, if there is one."""
    return shutil.which(os.environ.get("CXX", "g++")) or shutil.which("clang++")


def repeatable(threads: int) -> None:
    """Process-wide settings: on CPUs of one kind a trial repeats its curve, and freed memory is kept for reuse."""
    torch.set_num_threads(threads)
    _keep_freed_memory()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    # With TF32, float32 convolutions would have ten bits of mantissa.
    torch.backends.cudnn.allow_tf32 = False


@contextmanager
def whole_machine() -> Iterator[None]:
    """All processors for work while nothing else runs. Settings are restored at the end, so that no curve changes."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    repeatable(num_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = before


@functools.cache
def _keep_freed_memory() -> None:
    """Have glibc keep freed blocks for the next step; otherwise the system takes them back and zeroes each page."""
    if sys.platform.startswith("linux") and platform.libc_ver()[0] == "glibc":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_THRESHOLD, _NEVER_BYTES)
        c_library.mallopt(_M_TRIM_THRESHOLD, _NEVER_BYTES)


def synchronize(device: str) -> None:
    """Wait until the device has finished its work, so that a clock reads the time really spent."""
    if device == "cuda":
        torch.cuda.synchronize()
    elif device == "mps":
        torch.mps.synchronize()


def hardware_name(device: str) -> str:
    """Name of the accelerator or processor, for which prices are valid."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
