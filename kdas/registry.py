"""Parts by name: samplers, losses, models and datasets register here, and a file can then say them.

A part's keyword-only parameters are its schema: their annotations carry types, bounds and descriptions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticCustomError

from kdas.reading import nearest, nested_error

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Part(Generic[T]):
    """A registered part: how to build it, what its parameters may be, and where it comes from."""

    name: str
    build: Callable[..., T]
    schema: type[BaseModel]
    source: str

    @property
    def summary(self) -> str:
        """The first line of the part's docstring."""
        return (inspect.getdoc(self.build) or "").split("\n", 1)[0]


class Registry(Generic[T]):
    """The parts of one kind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Part[T]] = {}

    def register(self, name: str, *, source: str) -> Callable[[Factory], Factory]:
        """Decorator: registers a factory under `name`; `source` is where the part was described or taken from."""

        def add(factory: Factory) -> Factory:
            if name in self._parts:
                raise ValueError(f"the {self.kind} {name!r} is already registered by {self._parts[name].build}")
            self._parts[name] = Part(name, factory, _schema(self.kind, name, factory), source)
            return factory

        return add

    def names(self) -> list[str]:
        return sorted(self._parts)

    def __iter__(self) -> Any:
        return iter(self._parts.values())

    def __getitem__(self, name: str) -> Part[T]:
        """Raises: KeyError: if no part has that name; the message names the nearest one."""
        if name not in self._parts:
            raise KeyError(f"no {self.kind} is called {name!r}. {nearest(name, self._parts)}")
        return self._parts[name]

    def checked(self, given: Any) -> dict[str, Any]:
        """`given` (a name, or a mapping with `name` and parameters of any case) with every default filled in.

        Raises: PydanticCustomError: for an unknown name or a parameter that its schema refuses.
        """
        content = {"name": given} if isinstance(given, str) else given
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise PydanticCustomError("nested", "{text}", {"key": "name", "text": f"missing. Name a {self.kind}."})
        parameters: dict[str, Any] = {}
        for key, value in content.items():
            lower = str(key).lower()
            if lower in parameters:
                text = "stands there in capitals and in small letters. Keep one."
                raise PydanticCustomError("nested", "{text}", {"key": lower, "text": text})
            if key != "name":
                parameters[lower] = value
        try:
            part = self[content["name"]]
        except KeyError as error:
            raise PydanticCustomError("nested", "{text}", {"key": "name", "text": error.args[0]}) from error
        try:
            return {"name": part.name, **part.schema.model_validate(parameters).model_dump(mode="json")}
        except ValidationError as error:
            raise nested_error(error, part.schema) from error

    def build(self, checked: Mapping[str, Any], *context: Any) -> T:
        """The part that `checked` (a result of `checked()`) describes, given its positional context."""
        parameters = {key: value for key, value in checked.items() if key != "name"}
        return self[checked["name"]].build(*context, **parameters)


def _schema(kind: str, name: str, factory: Callable[..., Any]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(factory, eval_str=True).parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            fields[parameter.name] = (parameter.annotation, default)
    config = ConfigDict(extra="forbid", allow_inf_nan=False, title=f"{kind} {name}")
    model: type[BaseModel] = create_model(f"{name.title()}Parameters", __config__=config, **fields)
    return model
