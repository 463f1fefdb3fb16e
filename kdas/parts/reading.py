"""Reads YAML and checks it against a schema; a mistake becomes one line that names file, key, value and remedy."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from kdas.errors import UserError, nearest

# What was expected, by pydantic's type of error; pydantic's other messages say it themselves.
_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    "list_type": "a list",
}
_BOUNDS = {
    "greater_than": "a value over {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a value below {lt}",
    "less_than_equal": "at most {le}",
}
Schema = TypeVar("Schema", bound=BaseModel)


class _UniqueKeyLoader(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys: plain YAML silently keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<` copies another mapping's keys, which may then be given again
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "keys must be plain words", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 reads 1e-3, without a dot, as text; whoever writes a learning rate means a number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """The content of a YAML text. Raises: yaml.YAMLError, ValueError: if it is not YAML, or has a duplicate key."""
    return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises: UserError: if the file is missing, unreadable, not YAML (with line and column) or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}. Give the path of a YAML file.") from error
    try:
        content = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: {_yaml_problem(error)}") from error
    except ValueError as error:  # looks like a date but is not one
        raise UserError(f"{path}: {error}. Put the value in quotes.") from error
    if content is None:
        raise UserError(f"{path}: is empty. Add keys and values.")
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, got {type(content).__name__}.")
    return content


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "not valid YAML"
    if mark is None:
        return f"{problem}. Fix the YAML."
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}. Fix the YAML there."


def validated(model: type[Schema], content: Mapping[str, Any], *, source: str) -> Schema:
    """`content` as an instance of `model`.

    Args: source: file named in the message.
    Raises: UserError: one line with file, key, value and remedy for the first mistake, and the number of others.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, model)}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in `error` as `key: expected what, got value. remedy`, and the number of others."""
    details = error.errors()
    first = _explain_one(details[0], model)
    more = len(details) - 1
    return first if not more else f"{first} (and {more} more mistake{'s' if more > 1 else ''})"


def _explain_one(detail: ErrorDetails, model: type[BaseModel]) -> str:
    keys = [str(key) for key in detail["loc"]]
    where = ".".join(keys)
    if detail["type"] == "nested":  # a part's own schema already says where and what
        inner_key, inner_text = detail["ctx"]["key"], detail["ctx"]["text"]
        return f"{'.'.join(filter(None, (where, inner_key)))}: {inner_text}"
    if detail["type"] == "extra_forbidden":
        return f"{where}: unknown key. {nearest(keys[-1], _fields_at(model, keys[:-1]))}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    if detail["type"] == "value_error":  # our own validators name the value and the remedy themselves
        ending = "" if message.endswith("?") else "."
        return f"{where}: {message}{ending}" if where else f"{message}{ending}"
    if detail["type"] in ("model_type", "model_attributes_type", "dict_type"):
        known = _fields_at(model, keys)
        return f"{where}: expected a mapping, got {_short(detail['input'])}.{_known_keys(known)}"
    hint = _description_at(model, keys)
    if detail["type"] == "too_short" and not detail["input"]:
        return f"{where}: expected at least one entry, got none. {hint}".rstrip()
    if detail["type"] == "missing":
        return f"{where}: missing. Add this key. {hint}".rstrip()
    interval = _interval_at(model, keys)
    if interval and detail["type"] in _BOUNDS:
        message = f"a value in {interval}"
    else:
        bound = _BOUNDS.get(detail["type"], "").format(**detail.get("ctx", {}))
        message = _EXPECTED.get(detail["type"]) or bound or message.removeprefix("should be ")
    return f"{where}: expected {message}, got {_short(detail['input'])}. {hint}".rstrip()


def _known_keys(known: list[str]) -> str:
    return f" Known keys: {', '.join(known)}." if known else ""


def refuse_booleans_for_numbers(cls: type[BaseModel], content: Any) -> Any:
    """A validator of a whole block: `epochs: true` is a mistake, although Python treats true as 1."""
    for name, field in cls.model_fields.items() if isinstance(content, Mapping) else ():
        kinds = get_args(field.annotation) or (field.annotation,)
        if isinstance(content.get(name), bool) and bool not in kinds and (int in kinds or float in kinds):
            text = f"expected a number, got {content[name]}. {field.description or ''}".rstrip()
            raise PydanticCustomError("nested", "{text}", {"key": name, "text": text})
    return content


def nested_error(error: ValidationError, model: type[BaseModel]) -> PydanticCustomError:
    """Wraps the error of a part's own schema so that `explain` can print its key below the part's key."""
    key, _, text = explain(error, model).partition(": ")
    return PydanticCustomError("nested", "{key}: {text}", {"key": key, "text": text})


def _interval_at(model: type[BaseModel], keys: list[str]) -> str:
    """The bounds of the field, e.g. `(0, 1]`; empty if it has none."""
    parent = _model_at(model, keys[:-1])
    field = parent.model_fields.get(keys[-1]) if parent else None
    lower, upper = "", ""
    for bound in field.metadata if field else ():
        match bound:
            case Gt():
                lower = f"({bound.gt}"
            case Ge():
                lower = f"[{bound.ge}"
            case Lt():
                upper = f"{bound.lt})"
            case Le():
                upper = f"{bound.le}]"
    return f"{lower or '(-inf'}, {upper or 'inf)'}" if lower or upper else ""


def _short(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _model_at(model: type[BaseModel], keys: list[str]) -> type[BaseModel] | None:
    current: Any = model
    for key in keys:
        if _is_model(current):
            field = current.model_fields.get(key)
            current = field.annotation if field else None
        else:  # all values of a mapping or of a list have one type
            current = next(reversed(get_args(current)), None)
        candidates = (current, *get_args(current))
        current = next(filter(_is_model, candidates), current)
    return current if _is_model(current) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _fields_at(model: type[BaseModel], keys: list[str]) -> list[str]:
    found = _model_at(model, keys)
    return list(found.model_fields) if found else []


def _description_at(model: type[BaseModel], keys: list[str]) -> str:
    """The description of the innermost documented field on the way to the mistake."""
    for length in range(len(keys), 0, -1):
        parent = _model_at(model, keys[: length - 1])
        field = parent.model_fields.get(keys[length - 1]) if parent else None
        if field is not None and field.description:
            return field.description
    return ""
