"""CPU quotas and memory limits that a container or batch system sets for this process by Linux control groups.

A limit applies to a group and everything below it, so all groups from the process's own up to the root count. Versions
1 and 2 are read, also on machines that mount both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/")


def num_cpus() -> int:
    """Processors that this process may use: at most those of its affinity, and of the quota of a container."""
    present = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cpu_quota()
    return present if quota is None else max(1, min(present, int(quota)))


def cpu_quota(root: Path = _ROOT) -> float | None:
    """The CPU quota, in processors; None without a limit. Args: root: of the file system, for tests."""
    quotas = [
        *(_share(*line.split()[:2]) for folder in _folders("", root) if (line := _text(folder / "cpu.max"))),
        *(
            _share(_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us"))
            for folder in _folders("cpu", root)
        ),
    ]
    return min((quota for quota in quotas if quota is not None), default=None)


def free_memory_bytes(root: Path = _ROOT) -> int | None:
    """Memory that the groups still allow, in bytes; None without a limit.

    Inactive pages of files count as free, because the system reclaims them. Args: root: of the file system, for tests.
    """
    free = [
        *(_left(folder, "memory.max", "memory.current", "inactive_file") for folder in _folders("", root)),
        *(
            _left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            for folder in _folders("memory", root)
        ),
    ]
    return min((each for each in free if each is not None), default=None)


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> int | None:
    # Version 1 writes "no limit" as a number beyond any machine's memory.
    allowed, taken = _number(_text(folder / limit)), _number(_text(folder / used))
    if allowed is None or allowed >= 2**60:
        return None
    pages = dict(line.split(maxsplit=1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    return max(0, allowed - (taken or 0) + (_number(pages.get(reclaimable, "")) or 0))


def _share(quota: str, period: str) -> float | None:
    """Quota and period in microseconds as a number of processors; None for `max` and -1."""
    runs, of = _number(quota), _number(period)
    return runs / of if runs is not None and runs > 0 and of else None


def _folders(controller: str, root: Path) -> list[Path]:
    """The process's own group of a controller and all above it. Args: controller: empty for version 2."""
    found: dict[Path, None] = {}
    for mount, top in _mounts(controller, root):
        own = _group(controller, root)
        # A container sees its own group as the root of what is mounted, and may name the group from outside.
        inside = own.removeprefix(top) if top != "/" and own.startswith(top) else own
        folder = mount / inside.lstrip("/")
        folder = folder if folder.is_dir() and ".." not in folder.parts else mount
        while folder != mount:
            found[folder] = None
            folder = folder.parent
        found[mount] = None
    return list(found)


def _mounts(controller: str, root: Path) -> Iterator[tuple[Path, str]]:
    """The folders at which a controller's groups are mounted, each with the group that is mounted there."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        words, kind = before.split(), after.split()
        if len(words) < 5 or len(kind) < 3:
            continue
        is_it = kind[0] == "cgroup" and controller in kind[2].split(",") if controller else kind[0] == "cgroup2"
        if is_it:
            yield root / words[4].lstrip("/"), words[3]


def _group(controller: str, root: Path) -> str:
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if (controller in controllers.split(",")) if controller else not controllers:
            return path
    return "/"


def _text(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""


def _number(text: str) -> int | None:
    with suppress(ValueError):
        return int(text)
    return None
