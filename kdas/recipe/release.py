"""The configuration files of the official release and its relatives, which are recognised and can be translated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdas.errors import UserError

# Blocks of such a file that no file of ours has.
BLOCKS = ("EXPERIMENT", "DISTILLER", "SOLVER")


def is_release_file(content: Mapping[Any, Any]) -> bool:
    """Whether a file has the layout of the release: DISTILLER, and at least one more of its blocks."""
    return "DISTILLER" in content and sum(block in content for block in BLOCKS) > 1


def refuse_release_file(content: Mapping[Any, Any], source: str) -> None:
    """Raises: UserError: for a file of the release; names the command that translates it."""
    if is_release_file(content):
        raise UserError(
            f"{source}: is a configuration file of the official release. Translate it with kdas-sweeps import {source},"
            " and run the file that this prints."
        )
