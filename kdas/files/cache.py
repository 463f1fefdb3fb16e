"""The cache of results that trials share: teachers, banks, calibrations, packings, decoded images, downloads."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from kdas.errors import UserError
from kdas.files.full import written
from kdas.files.home import expanded


def cache_root() -> Path:
    """The folder named by `KDAS_CACHE`, else the user's cache folder."""
    named = os.environ.get("KDAS_CACHE")
    return expanded(named).absolute() if named else user_cache_path("kdas-sweeps")


def check_cache() -> None:
    """Check that a cache exists or can be created, before anything is computed for it. Raises: UserError: if not."""
    root = cache_root()
    if not os.path.isdir(root):  # noqa: PTH112 (a Path would raise where a folder above may not be read)
        try:
            writable_folder(root)
        except UserError as error:
            raise UserError(
                f"{str(error).partition('. Give')[0]}. Set KDAS_CACHE to a folder that you may write to."
            ) from error


def content_id(content: Any, length: int = 16) -> str:
    """A hash of plain data, the same for the same values on every machine."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=length // 2).hexdigest()


def file_id(path: Path) -> str:
    """A hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


@contextmanager
def replaced_whole(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that replaces it when the block ends. Readers never see a partial file.

    When the block has ended, both the file and its name are on disk.
    """
    writable_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        # Not with `tempfile`, which lets only this user read the file. Here the system applies the user's umask.
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk. Otherwise a power failure could remove a new file or bring back the old."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a small file atomically: a kill leaves the old or the new content."""

    def write() -> None:
        with replaced_whole(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    written(path, write)


def writable_folder(folder: Path) -> Path:
    """`folder`, created if it is missing.

    Raises: UserError: if it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written to: {error.strerror}. Give a folder that you may write to."
        ) from error
    return folder
