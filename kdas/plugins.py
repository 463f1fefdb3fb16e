"""Users' own parts: modules named in a file, which register samplers, losses, models or datasets when imported."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from kdas.cache import content_id


def load_plugins(names: list[str]) -> list[str]:
    """Import each of them, once: a dotted module name, or the path of a .py file.

    Returns: the names, files as absolute paths, since a worker may stand in another folder.
    Raises: ValueError: if one is not there or fails; the message names it.
    """
    return [_load(name) for name in names]


def _load(name: str) -> str:
    if not name.endswith(".py"):
        import_module(name)
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
            raise ValueError(f"{name}: no such file. Give the path of a .py file") from error
        except Exception as error:
            del sys.modules[module_name]
            raise ValueError(_failure(name, error)) from error
    return str(path)


def import_module(name: str) -> ModuleType:
    """A module by its dotted name; the folder one stands in is searched too.

    Raises: ValueError: if it is not there or fails; the message names it.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ValueError(
                f"{name}: no such module. Run from the folder it lies in, install it, or give the path of a .py file"
            ) from error
        raise ValueError(_failure(name, error)) from error
    except Exception as error:
        raise ValueError(_failure(name, error)) from error


def _failure(name: str, error: Exception) -> str:
    reason = str(error).split("\n", 1)[0].rstrip(".")
    return f"{name}: cannot be imported: {type(error).__name__}: {reason}. Mend that module"
