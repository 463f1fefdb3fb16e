"""The registries of the parts that a file may name, without the seconds that importing torch takes.

Each is the real registry once its package has been imported, by the trainer or by a plug-in. Until then the modules of
the package are read apart from all others, with a stand-in for torch and the like. That is enough to know names,
parameters, bounds and defaults, and so to check a file. Nothing can be built from what is read this way.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import sys
import warnings
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from kdas.parts.registry import Part, Registry

_ROOT = Path(__file__).parents[1]
# Modules that are imported as usual: they are quick, or hold what both readings share.
_AS_USUAL = {"annotated_types", "pydantic", "pydantic_core", *sys.stdlib_module_names}
_SHARED = ("kdas.errors", "kdas.parts", "kdas.records")
# They define no part, and no type of a parameter.
_WITHOUT_PARTS = ("kdas.files", "kdas.compute", "kdas.teacher", "kdas.training")
# No other module has a name like this.
_PREFIX = "read apart: "


class _StandIn:
    """Stands for anything in a module that is not imported: a base class, a decorator, a type or a value."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        is_decorator = len(arguments) == 1 and not keywords and callable(arguments[0])
        return arguments[0] if is_decorator else self

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return ()

    def __getitem__(self, key: Any) -> Any:
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __add__ = __radd__ = __sub__ = __mul__ = __rmul__ = __truediv__ = __or__


_STAND_IN = _StandIn()


class _Package:
    """A package of this project: its modules are read apart, and all else is a stand-in."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        full_name = f"{self._name}.{name}"
        return _read(full_name) if _file_of(full_name).is_file() else _STAND_IN


def _import(
    name: str, in_globals: Any = None, in_locals: Any = None, wanted: tuple[str, ...] = (), level: int = 0
) -> Any:
    """The `import` of a module that is read apart."""
    package = name.partition(".")[0]
    if package in _AS_USUAL or name.startswith(_SHARED):
        return builtins.__import__(name, in_globals, in_locals, wanted, level)
    if package != _ROOT.name or name.startswith(_WITHOUT_PARTS):
        return _STAND_IN
    return _read(name) if _file_of(name).is_file() else _Package(name)


def _read(name: str) -> ModuleType:
    apart = f"{_PREFIX}{name}"
    if apart not in sys.modules:
        module = ModuleType(apart)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        sys.modules[apart] = module
        code = SourceFileLoader(name, str(_file_of(name))).get_code(name)
        assert code is not None  # source files always have code
        exec(code, module.__dict__)  # noqa: S102 (a module of this package)
    return sys.modules[apart]


def _file_of(name: str) -> Path:
    return _ROOT.joinpath(*name.split(".")[1:]).with_suffix(".py")


@functools.cache
def _read_registry(package: str, name: str) -> Registry[Any]:
    # Filters that a module sets would hold stand-ins for the classes of warnings.
    with warnings.catch_warnings():
        files = sorted(_file_of(package).with_suffix("").glob("[!_]*.py"))
        modules = [_read(f"{package}.{file.stem}") for file in files]
    return next(value for module in modules if isinstance(value := vars(module).get(name), Registry))


class _Known:
    """A registry by its place. It is looked up at each use, since a plug-in may import its package at any time."""

    def __init__(self, package: str, name: str) -> None:
        self._package, self._name = package, name

    def _registry(self) -> Registry[Any]:
        found = getattr(sys.modules.get(self._package), self._name, None)
        if isinstance(found, Registry):
            return found
        try:
            return _read_registry(self._package, self._name)
        except Exception:  # noqa: BLE001 (whatever a module does that cannot be read apart: it can be imported)
            registry: Registry[Any] = getattr(importlib.import_module(self._package), self._name)
            return registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._registry(), name)

    def __iter__(self) -> Iterator[Part[Any]]:
        return iter(self._registry())

    def __getitem__(self, name: str) -> Part[Any]:
        return self._registry()[name]


def checked_model(name: str) -> str:
    """The name of a model. Raises: ValueError: if there is none of that name; names the nearest one."""
    if "/" in name or ":" in name:  # torchvision's, or the user's own: only their code knows
        checked: str = importlib.import_module("kdas.models").check_name(name)
        return checked
    try:
        return str(MODELS[name].name)
    except KeyError as error:
        raise ValueError(error.args[0]) from error


DATASETS = cast("Registry[Any]", _Known("kdas.data", "DATASETS"))
LOSSES = cast("Registry[Any]", _Known("kdas.losses", "LOSSES"))
MODELS = cast("Registry[Any]", _Known("kdas.models", "MODELS"))
SAMPLERS = cast("Registry[Any]", _Known("kdas.samplers", "SAMPLERS"))
TRANSFORMS = cast("Registry[Any]", _Known("kdas.transforms", "TRANSFORMS"))
