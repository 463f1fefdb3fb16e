"""Where a sweep lies, without loading what runs it."""

from __future__ import annotations

import os
from pathlib import Path

# Exit codes beside 0, 2 (a user's mistake, told in one line) and 1 (a mistake of ours, with its traceback).
CRASHED_TRIALS = 3
INTERRUPTED = 130


def runs_root() -> Path:
    """The folder of all sweeps: `RUNS_DIR`, else `runs`."""
    return Path(os.environ.get("RUNS_DIR") or "runs").expanduser().absolute()


def sweep_name(name: str) -> str:
    """The name of a sweep's directory: what the user called it, or the stem of the file."""
    return Path(name).stem if Path(name).suffix in {".yaml", ".yml"} else name
