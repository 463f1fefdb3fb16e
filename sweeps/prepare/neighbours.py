"""Finds other sweeps that train on this machine. They share its slots, and users should know of them."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import Timeout

from kdas.errors import UserError
from kdas.files.cache import cache_root
from kdas.files.locks import is_held, locked
from sweeps.engine.slots import Slots

_LOOKS_EVERY_S = 5.0
# Younger files may be about to be locked, so they are not removed.
_STALE_AFTER_S = 60.0


class Neighbours:
    """One lock file in the cache for each sweep on this machine. If it fails, a sweep runs as if it were alone.

    Args: name: of the sweep, as other sweeps print it; slots: the number that it would use alone.
    """

    def __init__(self, name: str, slots: Slots) -> None:
        self._name, self._slots, self._num_others = name, slots, 0
        self._own = _own_lock()
        self._known: set[Path] = set()
        self._looked_at: float | None = None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Announce this sweep to others until the block ends."""
        name = self._own.with_suffix(".name")
        with ExitStack() as until_end:
            with suppress(OSError, UserError, Timeout):
                self._own.parent.mkdir(parents=True, exist_ok=True)
                until_end.callback(self._own.unlink, missing_ok=True)
                until_end.callback(name.unlink, missing_ok=True)
                name.write_text(self._name, encoding="utf-8")
                until_end.enter_context(locked(self._own, timeout_s=1))
            yield

    @property
    def ids(self) -> tuple[str, ...]:
        """Ray's ids of the machines to use: there is only this one."""
        return ()

    def share(self) -> int:
        """How many trials this sweep may run: an equal share of its slots, or as many as its file says."""
        if self._slots.is_fixed:
            return self._slots.trials_at_once
        return max(1, self._slots.trials_at_once // (1 + self._num_others))

    def news(self) -> list[str]:
        """A message for each sweep that has started since the last call; looks every 5 seconds at most."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOKS_EVERY_S:
            return []
        self._looked_at = now
        with suppress(OSError):
            others = set(_others())
            new = others - self._known
            self._known |= new
            self._num_others = len(others)
            return [f"{_said(each)} {self._consequence()}" for each in sorted(new)]
        return []

    def _consequence(self) -> str:
        if self._slots.is_fixed:
            return f"Both take longer. This one runs {self.share()} at once, as resources.trials_at_once says."
        return f"They share the slots: this one starts trials while fewer than {self.share()} run."


def other_sweeps() -> list[str]:
    """The names of the other sweeps that train on this machine now."""
    with suppress(OSError):
        return [_name_of(each) or "another sweep" for each in sorted(_others())]
    return []


def _own_lock() -> Path:
    return cache_root() / "running" / platform.node() / f"{os.getpid()}.lock"


def _others() -> Iterator[Path]:
    """The lock files of the other sweeps."""
    own = _own_lock()
    for path in own.parent.glob("*.lock"):
        if path == own:
            continue
        if is_held(path):
            yield path
        elif time.time() - path.stat().st_mtime > _STALE_AFTER_S:  # its sweep was killed
            path.with_suffix(".name").unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _said(lock: Path) -> str:
    name = _name_of(lock)
    return f"{name or 'Another sweep'} trains on this machine too (process {lock.stem})."


def _name_of(lock: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return lock.with_suffix(".name").read_text(encoding="utf-8")
    return ""
