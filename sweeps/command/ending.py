"""How a sweep's process is asked to end: by Ctrl-C, by SIGTERM, or because whoever started it has died."""

from __future__ import annotations

import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from kdas.errors import is_on_containers, make_command
from sweeps.command.options import INTERRUPTED, TERMINATED, cluster_address

# The process id of the front, for the processes that it starts.
STARTED_BY = "KDAS_STARTED_BY"
_LOOKS_EVERY_S = 0.5


@dataclass
class _Requests:
    """What this process was asked so far. `defers`: a request is noted, and acted on where `check` is called."""

    defers: bool = False
    is_asked: bool = False
    is_terminated: bool = False


_requests = _Requests()


def heed_requests() -> None:
    """From now on SIGTERM does what Ctrl-C does, and `check` knows of both even if somebody drops the exception.

    To be called again after others have set handlers of their own.
    """
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGINT, lambda number, frame: _ask())


@contextmanager
def deferred() -> Iterator[None]:
    """Within the block a request to end raises nothing until `check` is called; a second Ctrl-C does at once."""
    before = signal.signal(signal.SIGINT, lambda number, frame: _ask())
    _requests.defers = True
    try:
        yield
    finally:
        _requests.defers = False
        signal.signal(signal.SIGINT, before)


def check() -> None:
    """Raises: KeyboardInterrupt: if this process was asked to end."""
    if _requests.is_asked:
        raise KeyboardInterrupt


def exit_code() -> int:
    """The exit code of a process that ends because it was asked to."""
    return TERMINATED if _requests.is_terminated else INTERRUPTED


def resume_hint(name: str, settings: Sequence[str] | None) -> str:
    """What is kept, and how to resume."""
    with_settings = f' SET="{" ".join(settings)}"' if settings else ""
    # Where the containers' sweeps run stands in their files, and a job of SLURM takes its cluster along.
    is_gone = is_on_containers() or "SLURM_JOB_ID" in os.environ
    places = {} if is_gone else {"CLUSTER": cluster_address(), "RUNS_DIR": os.environ.get("RUNS_DIR", "")}
    given = "".join(f" {key}={shlex.quote(value)}" for key, value in places.items() if value)
    return f"Finished trials are kept. Resume with: {make_command('sweep', name)}{with_settings}{given}"


def end_with_parent() -> None:
    """End as by SIGTERM when the front that started this process dies: nobody would see it run on, or report it."""
    parent = int(os.environ.pop(STARTED_BY, "0"))
    if parent:
        threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    # The orphans of a process belong to another one.
    while os.getppid() == parent:
        time.sleep(_LOOKS_EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    # Once: the front passes on what a batch system may have sent to every process.
    if not _requests.is_terminated:
        _requests.is_terminated = True
        _ask()


def _ask() -> None:
    is_first = not _requests.is_asked
    _requests.is_asked = True
    if not (_requests.defers and is_first):
        raise KeyboardInterrupt
