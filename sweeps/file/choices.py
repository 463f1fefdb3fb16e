"""The samplers and losses that a search chooses between, as written in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from kdas.parts.known import SAMPLERS
from kdas.parts.reading import Mistake, below, refusal, told_by
from kdas.parts.terms import checked_terms
from sweeps.space.places import PARTS


def first_searched(search: Any) -> Any:
    """The first searched sampler, which need not be repeated under `sampler`; None if the sampler is not searched."""
    by_name = {str(key).lower(): values for key, values in search.items()} if isinstance(search, Mapping) else {}
    choices = _choices(by_name.get("sampler"))
    return choices[0] if choices else None


def _choices(values: Any) -> Any:
    choices = values.get("choices") if isinstance(values, Mapping) else values
    return choices if isinstance(choices, list) else None


def checked_choices(key: str, values: Any) -> Any:
    """The values of one key of `search`. If the key is a part, its choices are checked and completed."""
    choices = _choices(values)
    if key not in PARTS or choices is None:
        return values
    check = SAMPLERS.checked if key == "sampler" else checked_terms
    checked: list[Any] = []
    mistakes: list[Mistake] = []
    for number, choice in enumerate(choices):
        try:
            checked.append(check(choice))
        except PydanticCustomError as error:
            mistakes += told_by(below(f"{key}.{number}", error))
    if mistakes:
        raise refusal(*mistakes)
    return {**values, "choices": checked} if isinstance(values, Mapping) else checked


def blocks_filled_in(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The content with the sampler and the scheduler that its other blocks ask for."""
    content = {"sampler": first_searched(content.get("search")), **content}
    if content["sampler"] is None:
        del content["sampler"]
    objective = content.get("objective", "tta")
    name = objective.get("name") if isinstance(objective, Mapping) else objective
    return {"scheduler": "racing" if name == "tta" else "none", **content}


def parts_written_out(search: Any) -> Any:
    """Choices of parts with every default filled in, so that equal settings compare as equal."""
    if not isinstance(search, Mapping):
        return search
    return {key: checked_choices(str(key).lower(), values) for key, values in search.items()}
