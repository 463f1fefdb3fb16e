"""Whether a decoded set fits into memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

# The other half is for models, batches and other processes.
SHARE = 0.5
_UNKNOWN_BYTES = 4 * 2**30


def fits(num_bytes: int, device: str) -> bool:
    """Whether decoded images take at most half of the free memory, here and on the device."""
    free = _free_bytes()
    if device == "cuda":
        free = min(free, torch.cuda.mem_get_info()[0])
    return num_bytes <= SHARE * free


def _free_bytes() -> int:
    """Free memory of this machine; a laptop's worth if it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        free = _physical_bytes()
    try:
        # A container may be allowed less than the machine has.
        return min(free, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):
        return free


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_BYTES
