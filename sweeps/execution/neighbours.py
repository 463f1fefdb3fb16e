"""Finds other sweeps that train on this machine. Each plans for the whole machine, so users should know of them."""

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

_LOOKS_EVERY_S = 5.0
# Younger files may be about to be locked, so they are not removed.
_STALE_AFTER_S = 60.0


class Neighbours:
    """One lock file in the cache for each sweep on this machine. It only serves messages, so its failures are silent.

    Args: name: of the sweep, as other sweeps print it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder = cache_root() / "running" / platform.node()
        self._own = self._folder / f"{os.getpid()}.lock"
        self._known: set[Path] = set()
        self._looked_at: float | None = None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Announce this sweep to others until the block ends."""
        name = self._own.with_suffix(".name")
        with ExitStack() as until_end:
            with suppress(OSError, UserError, Timeout):
                self._folder.mkdir(parents=True, exist_ok=True)
                until_end.callback(self._own.unlink, missing_ok=True)
                until_end.callback(name.unlink, missing_ok=True)
                name.write_text(self._name, encoding="utf-8")
                until_end.enter_context(locked(self._own, timeout_s=1))
            yield

    def news(self) -> list[str]:
        """A message for each sweep that has started since the last call; looks every 5 seconds at most."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOKS_EVERY_S:
            return []
        self._looked_at = now
        with suppress(OSError):
            new = set(self._others()) - self._known
            self._known |= new
            return [_said(each) for each in sorted(new)]
        return []

    def _others(self) -> Iterator[Path]:
        for path in self._folder.glob("*.lock"):
            if path == self._own:
                continue
            if is_held(path):
                yield path
            elif time.time() - path.stat().st_mtime > _STALE_AFTER_S:  # its sweep was killed
                path.with_suffix(".name").unlink(missing_ok=True)
                path.unlink(missing_ok=True)


def _said(lock: Path) -> str:
    name = lock.with_suffix(".name")
    with suppress(OSError, UnicodeDecodeError):
        return (
            f"{name.read_text(encoding='utf-8')} trains on this machine too (process {lock.stem}). Each sweep plans for"
            " the whole machine, so both take longer. Set resources.trials_at_once in their files to share it."
        )
    return f"Another sweep trains on this machine too (process {lock.stem}), so both take longer."
