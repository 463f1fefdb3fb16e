"""The folder of Ray's sockets and logs. It does not import Ray, so it can be checked before anything is computed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kdas.errors import UserError

# The path of a socket has at most 103 bytes on macOS, 107 on Linux. We take 14 of them for /kdas-12345678, and Ray up
# to 66 for /session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store.1
_LONGEST = 103 - 66 - 14
# Used if TMPDIR is too long. The last one exists on every Linux.
_OTHERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 (each sweep makes a folder of its own there)


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
    """A new folder for one start of Ray, so that it finds no files of another; removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kdas-", dir=parent_of_ray_folder()))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_writable(folder: Path) -> bool:
    with tempfile.TemporaryFile(dir=folder):
        return True
