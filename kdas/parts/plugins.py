"""Users' own parts: modules named in a file, which register samplers, losses, models or datasets when imported."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic_core import PydanticCustomError

from kdas.errors import UserError, nearest
from kdas.files.cache import content_id, file_id
from kdas.files.home import expanded
from kdas.parts.paths import place
from kdas.parts.reading import Mistake, refusal, sentence, told_by

# Code that is not the user's own, beside ours and Python's: the libraries that parts are made of.
_LIBRARIES = ("torch", "torchvision", "numpy", "pydantic", "ray")
_MOST_SHOWN = 300


class RegistrationError(ValueError):
    """A user's file registers what cannot be a part. The message names the part and the remedy."""


# Why plug-ins could not be imported. A second attempt gets the same error instead of importing half a module again.
_FAILURES: dict[str, str] = {}


def load_plugins(names: list[str]) -> list[str]:
    """Import each plug-in once.

    Args: names: dotted module names, or paths of .py files.
    Returns: the names, files as absolute paths, since a worker may run in another folder.
    Raises: PydanticCustomError: if some are missing or fail; names each of them.
    """
    loaded: list[str] = []
    mistakes: list[Mistake] = []
    for name in names:
        try:
            loaded.append(_load(name))
        except ValueError as error:
            mistakes.append(Mistake("", sentence(str(error))))
    if mistakes:
        raise refusal(*dict.fromkeys(mistakes))
    return loaded


def require_plugins(names: list[str], where: str) -> None:
    """`load_plugins` outside a file. Args: where: what names them, for messages. Raises: UserError: a line for each."""
    try:
        load_plugins(names)
    except PydanticCustomError as error:
        raise UserError(*(f"{where} {mistake.text}" for mistake in told_by(error))) from error


# Folders that are searched for users' own modules. They are passed to workers, which may run in another folder.
SEARCHED_FOLDERS: list[str] = []


def search_also(folders: list[str]) -> None:
    """Search these folders for modules too, after all others."""
    for folder in folders:
        if folder not in SEARCHED_FOLDERS:
            SEARCHED_FOLDERS.append(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def with_plugins_found(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A file's content, with plug-ins that are files named by full path. Modules beside it become importable."""
    search_also([str(folder.absolute())])
    named = content.get("plugins")
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return content  # the schema says what is wrong
    found = [place(name, folder) if name.endswith(".py") or (folder / name).is_file() else name for name in names]
    return {**content, "plugins": found}


def _load(name: str) -> str:
    asked = str(expanded(name).absolute()) if name.endswith(".py") else name
    if asked in _FAILURES:
        raise ValueError(_FAILURES[asked])
    try:
        if name.endswith(".py"):
            return _load_file(expanded(name).absolute())
        import_module(name)
        code_id(name)
        return name
    except ValueError as error:
        _FAILURES[asked] = f"{name}: {error}"
        raise ValueError(_FAILURES[asked]) from error


def _load_file(path: Path) -> str:
    module_name = module_of(path)
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        search_also([str(path.parent)])  # for what it imports, in whatever folder this process or a worker runs
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError as error:
            del sys.modules[module_name]
            raise ValueError(
                f"no such file. Give its path relative to the file that names it, or to {Path.cwd()}"
            ) from error
        except (Exception, SystemExit) as error:
            del sys.modules[module_name]
            raise ValueError(_import_failure(error)) from error
        code_id(module_name)
    return str(path)


def module_of(path: Path) -> str:
    """The name under which a plug-in's file is imported."""
    return f"kdas_plugin_{content_id(str(path))}"


def import_module(name: str) -> ModuleType:
    """A module by its dotted name; the current folder is searched too.

    Raises: ValueError: if it is missing or fails; says what is missing or went wrong.
    """
    # `python -m` searches the current folder, installed commands do not. Last, so that no file there hides a package.
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("expected the path of a .py file, or a package.module")
    search_also([str(Path.cwd())])
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"its import failed: {sentence(failure(error))} Install or fix it") from error
        raise ValueError(
            f"no module {error.name}. Use a package.module that can be imported from {Path.cwd()}"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(_import_failure(error)) from error


def _import_failure(error: BaseException) -> str:
    if not isinstance(error, RegistrationError):
        return f"its import failed: {sentence(failure(error))} Fix that file"
    return f"line {theirs[-1].lineno}: {error}" if (theirs := _own_frames(error)) else str(error)


@functools.cache
def code_id(module_name: str) -> str:
    """A hash of a module's file, so that changed code counts as another part; empty for a module of this project.

    Taken once, when a plug-in is imported: a file that is edited later is not the code that runs here.
    """
    if module_name.partition(".")[0] == "kdas":
        return ""
    file = getattr(sys.modules[module_name], "__file__", None)
    return file_id(Path(file)) if file else ""


def plugin_ids(names: list[str]) -> list[str]:
    """Hashes of the files of loaded plug-ins, independent of the order in which these are named."""
    return sorted(code_id(module_of(Path(name)) if name.endswith(".py") else name) for name in names)


@contextmanager
def blamed(what: str, file: str, explained: Callable[[str], str] = lambda _: "") -> Iterator[None]:
    """Run a user's own code in this block.

    Args: what: its name in messages; file: where it is defined, named if no line of it ran; explained: what is wrong
        with the part, in words for the user, by what Python says of a call that its function does not take.
    Raises: UserError: for whatever that code raises, in one line with its file and line.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        is_of_call = isinstance(error, TypeError) and not _own_frames(error)
        if is_of_call and (said := explained(str(error))):
            raise UserError(f"{what}: {said} ({file}).") from error
        raise UserError(f"{what}: its code failed: {sentence(failure(error, file))} Fix that file.") from error


def failure(error: BaseException, file: str = "") -> str:
    """An error of a user's code in one line, with the last line of that code that led to it.

    Args: file: named instead if no line of their own code did.
    """
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(". :")
    text = text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
    theirs = _own_frames(error)
    where = f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else file
    return f"{text}{f' ({where})' if where else ''}{_names_there_are(error)}"


def _names_there_are(error: BaseException) -> str:
    """What an object of ours has instead of the attribute that a user's code asked it for."""
    if (
        not isinstance(error, AttributeError)
        or not error.name
        or type(error.obj).__module__.partition(".")[0] not in ("kdas", "sweeps")
    ):
        return ""
    return f". {nearest(error.name, (name for name in dir(error.obj) if not name.startswith('_')))}".rstrip(".")


def is_own_exit(error: SystemExit) -> bool:
    """Whether a user's code asked for the end of the process. A signal asks for it too, from a library's code."""
    frames = _frames(error)
    return bool(frames) and not _is_of_library(Path(frames[-1].filename))


def _own_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """The lines of users' own code that led to an error, innermost last."""
    return [frame for frame in _frames(error) if not _is_of_library(Path(frame.filename))]


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where the error was raised, innermost last. Code without a file is left out."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]


def _is_of_library(file: Path) -> bool:
    """Whether a file is ours, Python's or of a library."""
    libraries = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    folders = [Path(__file__).parents[1], *(Path(each).parent for each in libraries if each)]
    is_of_python = file.is_relative_to(sysconfig.get_path("stdlib")) and "site-packages" not in file.parts
    return is_of_python or any(file.is_relative_to(folder) for folder in folders)
