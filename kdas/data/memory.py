"""Whether a decoded set fits into memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from kdas.errors import UserError
from kdas.files.control_groups import free_memory_bytes

# The other half is for models, batches and other processes.
SHARE = 0.5
_UNKNOWN_BYTES = 4 * 2**30


def fits(num_bytes: int, device: str) -> bool:
    """Whether decoded images take at most half of the free memory, here and on the device."""
    free = _free_bytes()
    if device == "cuda":
        free = min(free, torch.cuda.mem_get_info()[0])
    return num_bytes <= SHARE * free


def check_room(num_bytes: int, what: str) -> None:
    """Raises: UserError: if decoded images need more than the free memory."""
    free = _free_bytes()
    if num_bytes > free:
        raise UserError(
            f"{what} need {num_bytes / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free. Set dataset.resize or"
            " dataset.max_samples, or store the images as files and use image_folder, which can read them from disk."
        )


def _free_bytes() -> int:
    """Free memory of this machine; a laptop's worth if it is unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        free = _physical_bytes()
    allowed = free_memory_bytes()  # a container may be allowed less than the machine has
    return free if allowed is None else min(free, allowed)


def _physical_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN_BYTES
