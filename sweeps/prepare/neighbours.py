"""Other sweeps that train on this machine: each plans for all of it, so whoever waits for them should know."""

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
# A file that is just being locked is left alone.
_STALE_AFTER_S = 60.0


class Neighbours:
    """One lock file for each sweep of this machine, in the cache. Nothing depends on it: where it fails, it is silent.

    Args: name: of the sweep, as the others are told.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._folder = cache_root() / "running" / platform.node()
        self._own = self._folder / f"{os.getpid()}.lock"
        self._known: set[Path] = set()
        self._looked_at: float | None = None

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within the block other sweeps are told of this one."""
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
        """What there is to say about sweeps that were not here before."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOKS_EVERY_S:
            return []
        self._looked_at = now
        with suppress(OSError):
            new = set(self._others()) - self._known
            self._known |= new
            return [_said(each) for each in sorted(new)]
        return []

    def names(self) -> list[str]:
        """The other sweeps that train on this machine now."""
        with suppress(OSError):
            return [_name_of(each) or "another sweep" for each in sorted(self._others())]
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
    if name := _name_of(lock):
        return (
            f"{name} trains on this machine too (process {lock.stem}). Each sweep plans for"
            " the whole machine, so both take longer. Set resources.trials_at_once in their files to share it."
        )
    return f"Another sweep trains on this machine too (process {lock.stem}), so both take longer."


def _name_of(lock: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return lock.with_suffix(".name").read_text(encoding="utf-8")
    return ""
