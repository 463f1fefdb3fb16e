"""Parts by name: samplers, losses, models and datasets register here under the names that files use.

A part's keyword-only parameters are its schema: their annotations carry types, bounds and descriptions.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from kdas.errors import brief, nearest
from kdas.parts.plugins import RegistrationError, blamed
from kdas.parts.reading import nested_error, refuse_booleans_for_numbers, refused

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])


class _Later:
    """Annotates a parameter that its part did not have at first: `Registry.identity` leaves it out at its default."""


LATER = _Later()

# Keys of a file that are not parameters: a part's name, and the weight of a loss in a list.
_RESERVED = ("name", "weight")


@dataclass(frozen=True)
class Part(Generic[T]):
    """A registered part: how to build it, what its parameters may be, and where it comes from.

    `needs` names what it is given beyond what every part of its kind gets; `usual` holds the values of other keys of
    the file that its authors use with it; `priced` names the numeric parameters that change what a step costs.
    """

    name: str
    build: Callable[..., T]
    schema: type[BaseModel]
    source: str
    needs: tuple[StrEnum, ...] = ()
    usual: Mapping[str, float] = field(default_factory=dict)
    priced: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        """Name of the module that defines the part."""
        factory: Any = self.build
        while isinstance(factory, functools.partial):
            factory = factory.func
        return str(factory.__module__)

    @property
    def file(self) -> str:
        """The file that defines the part; its module if that has none."""
        return getattr(sys.modules.get(self.module), "__file__", None) or self.module

    @property
    def is_own(self) -> bool:
        """Whether it is a user's own, from a plug-in."""
        return self.module.partition(".")[0] not in ("kdas", "sweeps")

    @property
    def summary(self) -> str:
        """The first line of the part's docstring."""
        return (inspect.getdoc(self.build) or "").split("\n", 1)[0]


class Registry(Generic[T]):
    """The parts of one kind.

    Args: needs, usual: what parts of this kind may name when they register; common: keys that a file may give to any
        part of this kind, all with defaults. They are not passed to the part: who builds it looks at them; given_for:
        arguments that parts get for a need of another name.
    """

    def __init__(
        self,
        kind: str,
        needs: type[StrEnum] | None = None,
        usual: Iterable[str] = (),
        common: type[BaseModel] | None = None,
        given_for: Mapping[str, str] | None = None,
    ) -> None:
        self.kind = kind
        self._common = common
        self._needs = {need.value: need for need in needs or ()}
        self._need_of = {**{need: need for need in self._needs}, **(given_for or {})}
        self._usual = tuple(usual)
        self._parts: dict[str, Part[T]] = {}

    def register(
        self,
        name: str,
        *,
        source: str = "",
        needs: Iterable[str] = (),
        usual: Mapping[str, float] | None = None,
        priced: Iterable[str] = (),
    ) -> Callable[[Factory], Factory]:
        """Decorator: registers a factory under `name`; `source`, required, is where it was described or taken from.

        Args: needs: members of the registry's enum, or their values as plain strings; priced: numeric parameters that
            change what a step costs, which others are taken not to do.
        Raises: RegistrationError: if there can be no such part.
        """
        if not isinstance(name, str):
            raise RegistrationError(f'a {self.kind} has no name. Write register("my_name", source="where it is from")')
        if not isinstance(source, str) or not source.strip():
            raise RegistrationError(
                f'the {self.kind} {name!r} has no source. Write register("{name}", source="where it is from")'
            )
        needs, priced = ([each] if isinstance(each, str) else list(each) for each in (needs, priced))

        def add(factory: Factory) -> Factory:
            if name in self._parts:
                by = self._parts[name]
                raise RegistrationError(
                    f"the {self.kind} name {name!r} is taken by {by.file if by.is_own else by.module}. Choose another"
                )
            for given, known, what in ((needs, self._needs, "needs"), (usual or {}, self._usual, "usual")):
                for key in given:
                    if key not in known:
                        raise RegistrationError(
                            f"the {self.kind} {name!r}: {what}: {key!r} is unknown. {nearest(key, known)}"
                        )
            schema = _schema(self.kind, name, factory, self.common_fields)
            for key in priced:
                if key not in schema.model_fields:
                    raise RegistrationError(
                        f"the {self.kind} {name!r}: priced: {key!r} is unknown. {nearest(key, schema.model_fields)}"
                    )
            known_needs = tuple(self._needs[need] for need in needs)
            self._parts[name] = Part(name, factory, schema, source, known_needs, dict(usual or {}), tuple(priced))
            return factory

        return add

    def names(self) -> list[str]:
        return sorted(self._parts)

    def __iter__(self) -> Iterator[Part[T]]:
        return iter(self._parts.values())

    def __getitem__(self, name: str) -> Part[T]:
        """Raises: KeyError: if no part has that name; the message names the nearest one."""
        if name not in self._parts:
            raise KeyError(f"no {self.kind} is called {name!r}. {nearest(name, self._parts)}")
        return self._parts[name]

    def checked(self, given: Any) -> dict[str, Any]:
        """`given` (see `named`) with every default filled in, except those of the common keys.

        Raises: PydanticCustomError: for an unknown name or a parameter that its schema refuses.
        """
        name, parameters = self.named(given)
        try:
            part = self[name]
        except KeyError as error:
            raise refused(str(error.args[0]), "name") from error
        try:
            valid = part.schema.model_validate(parameters).model_dump(mode="json")
        except ValidationError as error:
            raise nested_error(error, part.schema) from error
        # Without them a trial's id is what it was before there were common keys.
        unset = {key for key, field in self.common_fields.items() if valid[key] == field.default}
        return {"name": part.name, **{key: value for key, value in valid.items() if key not in unset}}

    def identity(self, checked: Mapping[str, Any]) -> dict[str, Any]:
        """`checked` (a result of `checked()`) as ids see it: without later parameters at their defaults."""
        fields = self[checked["name"]].schema.model_fields
        later = {key for key, field in fields.items() if LATER in field.metadata}
        return {key: value for key, value in checked.items() if key not in later or value != fields[key].default}

    def named(self, given: Any) -> tuple[str, dict[str, Any]]:
        """Name and parameters of a part as a file gives it: `x`, `{name: x, PARAMETER: 1}` or `{X: {PARAMETER: 1}}`.

        Returns: the name, known or not, and the given parameters with keys in lower case.
        Raises: PydanticCustomError: if it is none of these.
        """
        content = {"name": given} if isinstance(given, str) else given
        if isinstance(content, Mapping) and len(content) == 1 and "name" not in content:
            (name, block), *_ = content.items()
            known = {each.lower(): each for each in self._parts}
            if isinstance(block, Mapping) and str(name).lower() in known:
                content = {"name": known[str(name).lower()], **block}
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            name = content.get("name") if isinstance(content, Mapping) else content
            wrong = "missing" if name is None else f"expected the name of a {self.kind}, got {brief(name)}"
            raise refused(f"{wrong}. {nearest('', self._parts)}", "name")
        return content["name"], lower_keys({key: value for key, value in content.items() if key != "name"})

    def build(self, checked: Mapping[str, Any], *context: Any) -> T:
        """The part that `checked` (a result of `checked()`) describes.

        `context` is passed only to factories that have positional parameters.

        Raises: UserError: if the code of a user's own part fails.
        """
        parameters = {key: value for key, value in checked.items() if key not in {"name", *self.common_fields}}
        part = self[checked["name"]]
        with self.blamed(part.name):
            return part.build(*context, **parameters) if _takes_context(part.build) else part.build(**parameters)

    def blamed(self, name: str) -> AbstractContextManager[None]:
        """A block that runs a part's code. Raises: UserError: in one line, for whatever a user's own part raises."""
        part = self[name]
        return blamed(f"{self.kind} {name}", part.file, self._unmet) if part.is_own else nullcontext()

    def _unmet(self, said: str) -> str:
        """How a part's needs and what its function takes differ. Args: said: by Python, of its call."""
        given = [argument for argument in re.findall(r"'(\w+)'", said) if argument in self._need_of]
        if not given:
            return ""
        needs = list(dict.fromkeys(str(self._need_of[argument]) for argument in given))
        if "unexpected keyword" in said:
            return f"its needs name {needs[0]}, but its code does not take {given[0]}. Add that argument to"
        return undeclared(f"takes {' and '.join(given)}", needs)

    @property
    def common_fields(self) -> Mapping[str, FieldInfo]:
        """The keys that a file may give to any part of this kind."""
        return self._common.model_fields if self._common else {}


def undeclared(what: str, needs: Iterable[str]) -> str:
    """The message for a part that uses what it does not ask for, up to the file. Args: what: it does."""
    listed = ", ".join(f'"{need}"' for need in needs)
    return f"{what} without declaring it. Add needs=[{listed}] where it registers"


def parameters_of(registry: Iterable[Part[Any]]) -> list[str]:
    """The names of all parameters that any of the parts has."""
    return list(dict.fromkeys(name for part in registry for name in part.schema.model_fields))


def lower_keys(content: Mapping[Any, Any]) -> dict[str, Any]:
    """The same mapping with keys in lower case.

    Raises: PydanticCustomError: if two keys differ only in case.
    """
    lowered: dict[str, Any] = {}
    for key, value in content.items():
        lower = str(key).lower()
        if lower in lowered:
            raise refused("is given twice, in upper and lower case. Keep one.", lower)
        lowered[lower] = value
    return lowered


def import_siblings(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, so that a new file is enough to register a part."""
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")


def _takes_context(factory: Callable[..., Any]) -> bool:
    kinds = [parameter.kind for parameter in inspect.signature(factory).parameters.values()]
    return any(kind is not inspect.Parameter.KEYWORD_ONLY for kind in kinds)


def _check(kind: str, name: str, parameter: inspect.Parameter, reserved: Iterable[str]) -> None:
    """Raises: RegistrationError: if a file could not set the parameter."""
    where = f"the {kind} {name!r} has a parameter {parameter.name!r}"
    if parameter.name != parameter.name.lower() or parameter.name in reserved:
        raise RegistrationError(f"{where}, which a file cannot set. Choose another name, in lower case")
    if parameter.annotation is inspect.Parameter.empty:
        raise RegistrationError(f"{where} without a type. Annotate it, for example with float")


def _schema(kind: str, name: str, factory: Callable[..., Any], common: Mapping[str, FieldInfo]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(factory, eval_str=True).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            _check(kind, name, parameter, (*_RESERVED, *common))
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
    fields.update({key: (field.annotation, copy(field)) for key, field in common.items()})
    config = ConfigDict(extra="forbid", allow_inf_nan=False, title=f"{kind} {name}")
    validators: Any = {"booleans": model_validator(mode="before")(refuse_booleans_for_numbers)}
    model: type[BaseModel] = create_model(
        f"{name.title()}Parameters", __config__=config, __validators__=validators, **fields
    )
    return model
