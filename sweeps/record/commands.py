"""The commands that messages tell users to type."""

from __future__ import annotations

import os


def make_command(command: str, name: str) -> str:
    """`make sweep NAME=x`, or `make sweep-on NAME=x` from a container."""
    return f"make {command}{'-on' if is_on_containers() else ''} NAME={name}"


def is_on_containers() -> bool:
    """Whether this runs on the containers of `docker/`, whose files set `KDAS_ON_CONTAINERS`."""
    return bool(os.environ.get("KDAS_ON_CONTAINERS"))
