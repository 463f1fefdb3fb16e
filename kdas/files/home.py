"""Supports users without a home folder or a name: containers often run as a user id that their system does not know."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from kdas.errors import UserError


def expanded(path: str | Path) -> Path:
    """A path with `~` replaced by the home folder. An unknown `~user` stays, so that it is reported as missing."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 (Path's own method raises RuntimeError)


def ensure_home() -> None:
    """Set `HOME` and `USER` if the system knows neither, for libraries that need them. Child processes inherit both.

    The folder named by `KDAS_CACHE` serves as home.

    Raises: UserError: if there is neither a home folder nor `KDAS_CACHE`.
    """
    try:
        Path.home()
    except RuntimeError as error:
        cache = os.environ.get("KDAS_CACHE", "")
        if not cache or cache.startswith("~"):
            raise UserError(
                f"HOME: the user {_number()} has no home folder. Set HOME, or KDAS_CACHE, to a folder that it may write"
                " to."
            ) from error
        os.environ["HOME"] = str(Path(cache).absolute())
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["USER"] = f"user{_number()}"


def _number() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else ""
