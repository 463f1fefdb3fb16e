"""Looks up in a schema a key's block, default, bounds and description, and the paths of all keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class KeysOf:
    """Annotates a field whose values have keys themselves, so that a message can say where a key belongs."""

    names: Callable[[], Iterable[str]]


def places(model: type[BaseModel], below: str = "", seen: tuple[type, ...] = ()) -> Iterator[str]:
    """The full path of every key that a file of this model may have, blocks first."""
    for name, field in model.model_fields.items():
        path = f"{below}{name}"
        yield path
        for keys in field.metadata:
            if isinstance(keys, KeysOf):
                yield from (f"{path}.{key}" for key in dict.fromkeys(keys.names()))
        for block in _blocks(field.annotation):
            if block not in seen:
                yield from places(block, f"{path}.", (*seen, model, block))


def _blocks(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field may hold directly, not in a list or mapping."""
    candidates = (annotation, *(get_args(annotation) if get_args(annotation) else ()))
    origin = getattr(annotation, "__origin__", None)
    return [] if origin in (list, dict) else [each for each in candidates if _is_model(each)]


def interval_at(model: type[BaseModel], keys: list[str]) -> str:
    """The bounds of the field, e.g. `(0, 1]`; empty if it has none."""
    field = _field_at(model, keys)
    lower, upper = "", ""
    for bound in field.metadata if field else ():
        match bound:
            case Gt():
                lower = f"({_shown(bound.gt)}"
            case Ge():
                lower = f"[{_shown(bound.ge)}"
            case Lt():
                upper = f"{_shown(bound.lt)})"
            case Le():
                upper = f"{_shown(bound.le)}]"
    return f"{lower or '(-inf'}, {upper or 'inf)'}" if lower or upper else ""


def _shown(bound: object) -> str:
    return f"{bound:g}" if isinstance(bound, float) else str(bound)


def _model_at(model: type[BaseModel], keys: list[str]) -> type[BaseModel] | None:
    current: Any = model
    for key in keys:
        if _is_model(current):
            field = current.model_fields.get(key)
            current = field.annotation if field else None
        else:  # all values of a mapping or of a list have one type
            current = next(reversed(get_args(current)), None)
        if getattr(current, "__origin__", None) not in (list, dict):
            candidates = (current, *get_args(current))
            current = next(filter(_is_model, candidates), current)
    return current if _is_model(current) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _field_at(model: type[BaseModel], keys: list[str]) -> FieldInfo | None:
    parent = _model_at(model, keys[:-1]) if keys else None
    return parent.model_fields.get(keys[-1]) if parent else None


def fields_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    """The keys of the block at a path; empty if there is no block."""
    found = _model_at(model, keys)
    return list(found.model_fields) if found else []


def description_at(model: type[BaseModel], keys: list[str]) -> str:
    """The description of the innermost documented field on the way to the mistake."""
    for length in range(len(keys), 0, -1):
        field = _field_at(model, keys[:length])
        if field is not None and field.description:
            return field.description
    return ""
