"""Lock files between processes. The system frees a lock when its process dies, for whatever reason."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock

from kdas.errors import UserError

if sys.platform != "win32":
    import fcntl

# How file systems say that they have no locks, or that their lock server does not answer.
_REFUSALS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}


@contextmanager
def locked(path: Path, *, timeout_s: float = -1, variable: str = "KDAS_CACHE") -> Iterator[None]:
    """Hold the lock file `path`.

    Args: timeout_s: how long to wait, by default without limit; variable: the environment variable that names the
        folder, for messages.
    Raises: UserError: if the file system has no locks, or the lock file belongs to another user;
        filelock.Timeout: if another process holds it for longer.
    """
    try:
        _check(path)
        lock = FileLock(path)
        lock.acquire(timeout=timeout_s)
    except PermissionError as error:
        raise UserError(
            f"{path}: you may not write this lock file{_of_owner(path)}. Set {variable} to a folder of your own."
        ) from error
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        raise UserError(
            f"{path}: this file system refuses locks ({error.strerror}). Set {variable} to a folder on another disk."
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """Whether a process holds the lock file, which need not be writable. False if the system cannot tell."""
    if sys.platform == "win32":
        return False
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            # Shared, so that two processes that look at the same time do not see each other's lock.
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


def _check(path: Path) -> None:
    """Try a lock before `FileLock` does. On a file system without locks, it would take an existing file for a lock.

    Raises: OSError: as the file system answers.
    """
    if sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    finally:
        os.close(handle)


def _of_owner(path: Path) -> str:
    with suppress(OSError, KeyError):
        return f", which belongs to {path.owner()}"
    return ""
