"""A user's mistakes: one line that names file, key, value and remedy. Standard library only."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """A mistake in the user's input: one line that names file, key, value and remedy; exit code 2."""


def run_command_line(app: Callable[[], object]) -> None:
    """Run a program's command line: a user's mistake is one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        print(str(error).replace("\n", " "), file=sys.stderr)
        sys.exit(2)


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    # Official names mix cases (MobileNetV2), and a wrong case is the likeliest mistake.
    by_lower_case = {known_name.lower(): known_name for known_name in names}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {by_lower_case[close[0]]}?"
    return f"Known: {', '.join(names)}." if names else "Remove it."
