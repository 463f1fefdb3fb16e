"""The key `loss` of a file: one loss, or a weighted sum of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticCustomError

from kdas.errors import brief
from kdas.parts.known import LOSSES
from kdas.parts.reading import Mistake, below, refusal, refused, told_by

# Published weights go up to 30,000.
MAX_WEIGHT, MOST_TERMS = 1_000_000, 100


def checked_terms(given: Any) -> Any:
    """The key `loss` of a file: one loss, or a list of losses each with a `weight`; every default is filled in.

    Raises: PydanticCustomError: names all mistakes.
    """
    if not isinstance(given, list):
        return LOSSES.checked(given)
    if not given:
        raise refused("expected a loss, got an empty list. Name one.")
    if len(given) > MOST_TERMS:
        raise refused(f"expected at most {MOST_TERMS} losses, got {len(given)}.")
    checked: list[dict[str, Any]] = []
    mistakes: list[Mistake] = []
    for number, term in enumerate(given):
        try:
            checked.append(_checked_term(term))
        except PydanticCustomError as error:
            mistakes += told_by(below(str(number), error))
    if mistakes:
        raise refusal(*mistakes)
    return checked


def _checked_term(given: Any) -> dict[str, Any]:
    name, parameters = LOSSES.named(given)
    weight = parameters.pop("weight", None)
    if type(weight) not in (int, float) or not 0 <= weight <= MAX_WEIGHT:
        bound = f"at most {MAX_WEIGHT}" if type(weight) in (int, float) and weight > 0 else "at least 0"
        raise refused(
            f"expected a weight of {bound}, got {brief(weight)}. Give each loss of a list a weight.", "weight"
        )
    return {**LOSSES.checked({"name": name, **parameters}), "weight": float(weight)}


def identity_of(loss: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Any:
    """The checked key `loss` of a file as ids see it (see `Registry.identity`)."""
    return LOSSES.identity(loss) if isinstance(loss, Mapping) else [LOSSES.identity(term) for term in loss]


def as_terms(loss: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """(weight, checked part) of each loss under the key `loss` of a file."""
    if isinstance(loss, Mapping):
        return [(1.0, dict(loss))]
    return [(term["weight"], {key: value for key, value in term.items() if key != "weight"}) for term in loss]
