"""Users' own parts: modules named in a file, which register samplers, losses, models or datasets when imported."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from kdas.errors import UserError
from kdas.files.cache import content_id, file_id
from kdas.files.home import expanded
from kdas.parts.paths import place

# Code that is not the user's own, beside ours and Python's: the libraries that parts are made of.
_LIBRARIES = ("torch", "torchvision", "numpy", "pydantic", "ray")
_MOST_SHOWN = 300

# Why plug-ins could not be imported. A second attempt gets the same error instead of importing half a module again.
_FAILURES: dict[str, str] = {}


def load_plugins(names: list[str]) -> list[str]:
    """Import each plug-in once.

    Args: names: dotted module names, or paths of .py files.
    Returns: the names, files as absolute paths, since a worker may run in another folder.
    Raises: ValueError: if one is missing or fails; the message names it.
    """
    return [_load(name) for name in names]


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
            raise ValueError(f"its import failed: {failure(error)}. Fix that file") from error
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
            raise ValueError(f"its import failed: {failure(error)}. Install or fix it") from error
        raise ValueError(
            f"no module {error.name}. Use a package.module that can be imported from {Path.cwd()}"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"its import failed: {failure(error)}. Fix that file") from error


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
def blamed(what: str) -> Iterator[None]:
    """Run a user's own code in this block. Args: what: its name in messages.

    Raises: UserError: for whatever that code raises, in one line with its file and line.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what}: its code failed: {failure(error)}. Fix that file.") from error


def failure(error: BaseException) -> str:
    """An error of a user's code in one line, with the last line of that code that led to it."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(". :")
    text = text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 3]}..."
    theirs = [frame for frame in _frames(error) if not _is_of_library(Path(frame.filename))]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text


def is_own_exit(error: SystemExit) -> bool:
    """Whether a user's code asked for the end of the process. A signal asks for it too, from a library's code."""
    frames = _frames(error)
    return bool(frames) and not _is_of_library(Path(frames[-1].filename))


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Where the error was raised, innermost last. Code without a file is left out."""
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]


def _is_of_library(file: Path) -> bool:
    """Whether a file is ours, Python's or of a library."""
    libraries = (getattr(sys.modules.get(name), "__file__", None) for name in _LIBRARIES)
    folders = [Path(__file__).parents[1], *(Path(each).parent for each in libraries if each)]
    is_of_python = file.is_relative_to(sysconfig.get_path("stdlib")) and "site-packages" not in file.parts
    return is_of_python or any(file.is_relative_to(folder) for folder in folders)
