"""What processes have used so far, as Linux counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def processor_s(session: int) -> float:
    """Processor seconds of the processes of a session, and of their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # After the name, which may contain anything: state, parent, group, session; user, system time, of children.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == session or _parent_is(fields, session):
                ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


def _parent_is(fields: list[str], process: int) -> bool:
    # PostgreSQL's processes have sessions of their own.
    return int(fields[1]) == process
