"""Settings of the command line, `key=value`, on top of a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kdas.errors import UserError
from kdas.parts.yaml_file import parse_yaml

# Values may contain spaces, so a new setting starts only at a key with an equals sign.
_BETWEEN = re.compile(r"\s+(?=[A-Za-z_][\w.]*=)")

_COMMA = re.compile(r",\s*[A-Za-z_][\w.]*=")


def single_settings(texts: Iterable[str]) -> list[str]:
    """Each setting by itself. Args: texts: `key=value`, or several of them separated by blanks."""
    return [each for text in texts for each in _BETWEEN.split(text.strip()) if each]


def settings_once(texts: Iterable[str]) -> list[str]:
    """Each setting by itself, as `single_settings`. A later text may change what an earlier one has set.

    Raises: UserError: if a text gives a key twice, as in a file.
    """
    found = []
    for text in texts:
        keys: set[str] = set()
        for each in single_settings([text]):
            key = each.partition("=")[0].strip().lower()
            if key in keys:
                raise UserError(f"SET {text}: {key} is given twice. Give each key once.")
            keys.add(key)
            found.append(each)
    return found


def setting(text: str) -> tuple[list[str], Any]:
    """The keys of a setting's path and its value, read as YAML. Raises: UserError: for an invalid one."""
    key, sign, value = (part.strip() for part in text.partition("="))
    if not value and sign and all(key.split(".")):
        raise UserError(f"SET {text}: has no value. Give one, or null for the default.")
    if _COMMA.search(value):
        raise UserError(f"SET {text}: has a comma between two settings. Put a space there.")
    if not sign or not all(key.split(".")):
        raise UserError(f'SET {text}: expected key=value. For example: SET="seeds=5 budget.trials=40".')
    try:
        return key.split("."), parse_yaml(value)
    except ValueError as error:
        raise UserError(
            f"SET {text}: the value is not valid YAML. Write a number, a word, [a, b] or {{a: b}}."
        ) from error


def merged(base: Any, over: Any) -> Any:
    """`over` on top of `base`: mappings are merged key by key, everything else is replaced, and `null` removes a key.

    A block that names another part replaces the old one entirely, since parameters of one part mean nothing to another.
    """
    if isinstance(base, str) and isinstance(over, Mapping) and "name" not in over:
        base = {"name": base}
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if "name" in over and over["name"] != base.get("name"):
        return over
    if {"model", "of"} <= base.keys() | over.keys() and not {"model", "of"} & base.keys() & over.keys():
        return over  # one teacher in place of several, or several in place of one
    result = dict(base)
    spelled = {str(key).lower(): key for key in base}
    for key, value in over.items():
        before = spelled.get(str(key).lower())
        if before is None:
            result[key] = value
        elif value is None:
            del result[before]
        else:  # keeps its place and spelling, and so the order of parameters and cells
            result[before] = merged(base[before], value)
    return result


def with_settings(content: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """A file's content with settings on top. Raises: UserError: for an invalid setting."""
    result: Any = content
    for text in settings_once(texts):
        steps, value = setting(text)
        for step in reversed(steps):
            value = {step: value}
        result = merged(result, value)
    return dict(result)
