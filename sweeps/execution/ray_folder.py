"""The folder of Ray's sockets and logs. It does not import Ray, so it can be checked before anything is computed."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from kdas.errors import UserError
from kdas.files.locks import is_held, locked

# The path of a socket has at most 103 bytes on macOS, 107 on Linux. We take 14 of them for /kdas-12345678, and Ray up
# to 66 for /session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store.1
_LONGEST = 103 - 66 - 14
# Used if TMPDIR is too long. The last one exists on every Linux.
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (each sweep makes a folder of its own there)

_PREFIX = "kdas-"
_LOCK = "in-use.lock"
# A file that is just being locked is left alone.
_STALE_AFTER_S = 60.0


def parent_of_ray_folder() -> Path:
    """The parent of Ray's folder: `RAY_TMPDIR` or `TMPDIR` if short enough for sockets, or else a usual folder.

    Raises: UserError: if no folder is both short enough and writable.
    """
    named = [os.environ[name] for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)]
    for folder in (*named, *_OTHERS):
        with suppress(OSError):
            if len(os.fsencode(folder)) <= _LONGEST and _is_writable(Path(folder)):
                return Path(folder)
    raise UserError(
        f"RAY_TMPDIR: Ray needs a writable folder whose path has at most {_LONGEST} bytes, and none of"
        f" {', '.join((*named, *_OTHERS))} is. Set RAY_TMPDIR to one."
    )


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A new folder for one start of Ray, so that it finds no files of another; removed at the end.

    Removes the folders that killed processes of this user have left.
    """
    parent = parent_of_ray_folder()
    for left in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if _is_left_behind(left):
                shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        with ExitStack() as until_end:
            try:
                until_end.enter_context(locked(folder / _LOCK, timeout_s=1))
            except (OSError, UserError):
                # Where there are no locks, a lock file would look like one that nobody holds. Without it others leave
                # the folder alone.
                (folder / _LOCK).unlink(missing_ok=True)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_left_behind(folder: Path) -> bool:
    """Whether the process that made the folder is gone, as far as this user may know."""
    lock = folder / _LOCK
    is_own = folder.lstat().st_uid == lock.lstat().st_uid == os.getuid() and not folder.is_symlink()
    return is_own and time.time() - lock.stat().st_mtime > _STALE_AFTER_S and not is_held(lock)


def _is_writable(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder):
        return True
