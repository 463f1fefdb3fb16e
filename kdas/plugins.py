"""Users' own parts: modules named in a file, which register samplers, losses, models or datasets when imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from kdas.cache import content_id, file_id


def load_plugins(names: list[str]) -> list[str]:
    """Import each of them, once: a dotted module name, or the path of a .py file.

    Returns: the names, files as absolute paths, since a worker may stand in another folder.
    Raises: ValueError: if one is not there or fails; the message names it.
    """
    return [_load(name) for name in names]


def _load(name: str) -> str:
    if not name.endswith(".py"):
        try:
            import_module(name)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        return name
    path = Path(name).expanduser().absolute()
    module_name = f"kdas_plugin_{content_id(str(path))}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError as error:
            del sys.modules[module_name]
            raise ValueError(f"{name}: there is no such file. Give its path as seen from {Path.cwd()}") from error
        except Exception as error:
            del sys.modules[module_name]
            raise ValueError(f"{name}: its import fails: {failure(error)}. Mend that file") from error
    return str(path)


def import_module(name: str) -> ModuleType:
    """A module by its dotted name; the folder one stands in is searched too.

    Raises: ValueError: if it is not there or fails; says what is missing or went wrong.
    """
    # As `python -m` has it; the installed commands do not. Last, so that no file there hides an installed package.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise ValueError(f"its import fails: {failure(error)}. Install or mend that") from error
        raise ValueError(f"there is no module {error.name}. Write package.module as seen from {Path.cwd()}") from error
    except Exception as error:
        raise ValueError(f"its import fails: {failure(error)}. Mend that file") from error


def code_id(module_name: str) -> str:
    """A hash of a module's file, so that changed code counts as another part; empty for a module of this project."""
    if module_name.partition(".")[0] == "kdas":
        return ""
    file = getattr(sys.modules[module_name], "__file__", None)
    return file_id(Path(file)) if file else ""


def plugin_ids(names: list[str]) -> list[str]:
    """A hash of the file of each loaded plugin."""
    return [file_id(Path(name)) if name.endswith(".py") else code_id(name) for name in names]


def failure(error: Exception) -> str:
    """An error of a user's code in one line, with the line of that code that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    ours = (__file__, importlib.__file__)
    theirs = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename not in ours and not frame.filename.startswith("<")
    ]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text
