"""Trains one trial. Whatever imports it first sees whether this Python can: a traceback would not say what to do."""

import importlib.util
import sys
from typing import Any

# Ahead of all that needs a newer Python, or packages. One that all commands need stands for them.
if sys.version_info[:2] < (3, 11) or importlib.util.find_spec("typer") is None:
    sys.stderr.write(
        f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]} and lacks what this program needs:"
        " Python 3.11 to 3.13 with its packages. Run make setup, and use .venv/bin/python.\n"
    )
    sys.exit(2)


def __getattr__(name: str) -> Any:
    # Only when asked for: torch takes seconds to load, and most commands need it late or never.
    if name == "load_student":
        from kdas.students.student import load_student

        return load_student
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
