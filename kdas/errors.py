"""Errors of the user: one line that names file, key, value and remedy. Standard library only."""

from __future__ import annotations

import difflib
import errno
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

# How a system says that a disk, or the user's share of it, is full.
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
# What a system says of a path that it does not accept, or of a file that this user may not touch.
_OF_PATHS = frozenset({errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP})
_MOST_SHOWN = 2_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class UserError(Exception):
    """A mistake in the user's input: one line that names file, key, value and remedy; exit code 2.

    Several mistakes of one file are several lines, each complete by itself.
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self.args))

    def of(self, source: Path | str) -> UserError:
        """The same mistakes, each with the file that they are in."""
        return UserError(*(f"{source}: {line}" for line in self.args))


class UnreadableError(UserError):
    """The system cannot read a file. That says nothing about its content, which may be intact."""

    def __init__(self, path: Path | str, error: OSError) -> None:
        super().__init__(
            f"{path}: cannot be read: {error.strerror}. Check its permissions and its disk, then try again."
        )


def quiet_interrupts() -> None:
    """From now on Ctrl-C ends this process without a traceback, also while modules are imported."""
    others = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, KeyboardInterrupt):
            others(kind, error, trace)

    sys.excepthook = hook


def run_command_line(app: Callable[..., object], *first: Callable[[], object]) -> None:
    """Run a program's command line. Each line of a `UserError` goes to standard error; exit code 2.

    So does what the system says of a full disk or of a path that it does not accept, and a command or option that does
    not exist. A warning of ours is one line too, without the place in the code.

    Args: app: a Typer program; first: called before it.
    """
    warnings.formatwarning = _formatted
    try:
        for prepare in first:
            prepare()
        code = app(standalone_mode=False)
    except UserError as error:
        _end(*map(str, error.args))
    except OSError as error:
        remedy = (
            "Free some space, and start again." if error.errno in FULL else "Give another path, or change this one."
        )
        if error.errno not in FULL and not (error.errno in _OF_PATHS and error.filename):
            raise
        where = f"{error.filename}: " if error.filename else ""
        _end(f"{where}{error.strerror}. {remedy}")
    except Exception as error:  # noqa: BLE001 (what is not about the words of a command is raised again)
        _end(*_usage(error))
    else:
        sys.exit(code if isinstance(code, int) else 0)


def _end(*lines: str) -> NoReturn:
    for line in lines:
        print(_in_one_line(line), file=sys.stderr)
    sys.exit(2)


def _usage(error: Any) -> list[str]:
    """What is wrong with the words of a command, in a line; none if its help was shown instead.

    Args: error: from Typer, whose classes have other names in each version.
    Raises: the error itself, if it is another one.
    """
    if not hasattr(error, "format_message"):
        raise error
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return []
    message = " ".join(str(error.format_message()).split())
    message = re.sub(
        r": Input should be (?:a valid )?(.*?)(?:, unable to parse.*)?$", r": expected \1", message.rstrip(".")
    )
    context = getattr(error, "ctx", None)
    if context is None:
        return [f"{message}. See --help."]
    command, where = context.command, context.command_path
    options = [name for option in command.params for name in option.opts if name.startswith("-")]
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        return [f"{where}: no such option {error.option_name}. {nearest(error.option_name, [*options, '--help'])}"]
    if found := re.match(r"No such command ['\"](.*?)['\"]", message):
        return [f"{where}: no such command {found[1]!r}. {nearest(found[1], command.commands)}"]
    if found := re.search(r"unexpected extra arguments? ?(?:\(s\))? \((.*)\)", message):
        setting = " Write a setting as --set KEY=VALUE." if "--set" in options else ""
        return [f"{where}: unexpected {found[1]!r}. Put words that belong together in quotes.{setting}"]
    return [f"{where}: {message[:1].lower()}{message[1:]}. See {where} --help."]


def _in_one_line(text: str) -> str:
    """A message without line breaks and what steers terminals; of a long one, which repeats a file, both ends."""
    text = _CONTROL.sub(lambda found: repr(found[0])[1:-1], text.replace("\n", " "))
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN // 2]} ... {text[-_MOST_SHOWN // 2 :]}"


def brief(value: object, limit: int = 80) -> str:
    """A value as a message shows it, cut short."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _formatted(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
    *,
    _usual: Callable[..., str] = warnings.formatwarning,
) -> str:
    is_ours = category is UserWarning and Path(filename).is_relative_to(Path(__file__).parent)
    return f"{message}\n" if is_ours else _usual(message, category, filename, lineno, line)


def make_command(command: str, name: str = "") -> str:
    """A command that a message tells users to type: `make report NAME=x`, or `make report-on NAME=x` from a container.

    Args: name: of the sweep; empty: without `NAME=`.
    """
    return f"make {command}{'-on' if is_on_containers() else ''}{f' NAME={name}' if name else ''}"


def is_on_containers() -> bool:
    """Whether this runs on the containers of `docker/`, whose files set `KDAS_ON_CONTAINERS`."""
    return bool(os.environ.get("KDAS_ON_CONTAINERS"))


def alike(name: str, known: Iterable[str], most: int = 1) -> list[str]:
    """The known names most similar to `name`, ignoring case, nearest first."""
    # Official names mix cases (MobileNetV2), and a wrong case is the likeliest mistake.
    by_lower_case = {known_name.lower(): known_name for known_name in known}
    close = difflib.get_close_matches(name.lower(), by_lower_case, n=most, cutoff=0.6)
    return [by_lower_case[each] for each in close]


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, or all of them."""
    names = sorted(set(known))
    if near := alike(name, names):
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(names)}." if names else "Remove it."
