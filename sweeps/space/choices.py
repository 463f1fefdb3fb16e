"""Samplers and losses between which a search chooses, as a file writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from kdas.losses.terms import checked_terms
from kdas.samplers import SAMPLERS
from sweeps.space.places import PARTS


def first_searched(search: Any) -> Any:
    """The first of the searched samplers, which a file need not repeat under `sampler`; None if none is searched."""
    by_name = {str(key).lower(): values for key, values in search.items()} if isinstance(search, Mapping) else {}
    choices = _choices(by_name.get("sampler"))
    return choices[0] if choices else None


def _choices(values: Any) -> Any:
    choices = values.get("choices") if isinstance(values, Mapping) else values
    return choices if isinstance(choices, list) else None


def checked_choices(key: str, values: Any) -> Any:
    """What `search` says of one key, with the choices of a whole part checked."""
    choices = _choices(values)
    if key not in PARTS or choices is None:
        return values
    check = SAMPLERS.checked if key == "sampler" else checked_terms
    checked = []
    for number, choice in enumerate(choices):
        try:
            checked.append(check(choice))
        except PydanticCustomError as error:
            context = error.context or {}
            at = ".".join(filter(None, (key, str(number), context["key"])))
            raise PydanticCustomError("nested", "{text}", {"key": at, "text": context["text"]}) from error
    return {**values, "choices": checked} if isinstance(values, Mapping) else checked
