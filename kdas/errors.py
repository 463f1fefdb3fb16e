"""Errors of the user: one line that names file, key, value and remedy. Standard library only."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake in the user's input: one line that names file, key, value and remedy; exit code 2."""


def run_command_line(app: Callable[[], object]) -> None:
    """Run a program's command line. A `UserError` becomes one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(2)


def alike(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names most similar to `name`, ignoring case, nearest first."""
    # Official names mix cases (MobileNetV2), and a wrong case is the likeliest mistake.
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=most, cutoff=0.6)
    return [by_lower_case[each] for each in close]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    if near := alike(name, names):
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}." if names else "Remove it."
