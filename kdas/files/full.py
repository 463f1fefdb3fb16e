"""Recognizes a full disk, and waits until it has room again."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

from kdas.errors import FULL, UserError

Result = TypeVar("Result")
# Called after a write failed; returns when it is time to retry.
Wait = Callable[[Path], None]

# Per thread: in other threads a full disk raises at once.
_wait: ContextVar[Wait | None] = ContextVar("wait", default=None)


def is_full(error: BaseException) -> bool:
    """Whether a write failed because the disk, or the user's share of it, is full."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in FULL


@contextmanager
def waiting_for_room(wait: Wait) -> Iterator[None]:
    """Within the block, writing a file of the record to a full disk calls `wait` and retries."""
    token = _wait.set(wait)
    try:
        yield
    finally:
        _wait.reset(token)


def written(path: Path, write: Callable[[], Result]) -> Result:
    """Call `write`. Within `waiting_for_room`, retry while the disk is full; elsewhere let the error pass.

    Args: write: must leave `path` unchanged if it fails.
    Returns: what `write` returns.
    """
    while True:
        try:
            return write()
        except (OSError, UserError) as error:
            wait = _wait.get()
            if wait is None or not is_full(error):
                raise
            wait(path)


@contextmanager
def going_without(path: Path) -> Iterator[None]:
    """For files that can be computed again: on a full disk, warn and continue without the file."""
    try:
        yield
    except (OSError, UserError) as error:
        if not is_full(error):
            raise
        warnings.warn(f"{path}: not kept, since this disk is full. Continuing without it.", stacklevel=3)


def check_room(folder: Path, num_bytes: int, what: str) -> None:
    """Check that the disk of `folder` has room for `num_bytes`. Raises: UserError: if it has not.

    Args: what: is to be written, for the message.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder}: {what} needs {num_bytes / 1e6:.0f} MB, and {free / 1e6:.0f} MB are free. Free some space, or"
            " set KDAS_CACHE to a folder on another disk."
        )
