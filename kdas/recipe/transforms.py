"""The key `transforms` of a file: batch transforms in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticCustomError

from kdas.parts.known import TRANSFORMS
from kdas.parts.reading import Mistake, below, refusal, refused, told_by

MOST_TRANSFORMS = 20


def checked_transforms(given: Any) -> Any:
    """A list of transforms, each a name or `{name: x, PARAMETER: 1}`; every default is filled in.

    Raises: PydanticCustomError: names all mistakes.
    """
    if not isinstance(given, list):
        given = [given]
    if len(given) > MOST_TRANSFORMS:
        raise refused(f"expected at most {MOST_TRANSFORMS} transforms, got {len(given)}.")
    checked: list[dict[str, Any]] = []
    mistakes: list[Mistake] = []
    for number, part in enumerate(given):
        try:
            checked.append(TRANSFORMS.checked(part))
        except PydanticCustomError as error:
            mistakes += told_by(below(str(number), error))
    if mistakes:
        raise refusal(*mistakes)
    return checked


def check_order(parts: Sequence[Mapping[str, Any]]) -> None:
    """Raises: ValueError: if images are mixed twice, or before a transform that needs whole pixel values."""
    mixing = ""
    for part in parts:
        name, needs = part["name"], TRANSFORMS[part["name"]].needs
        if mixing and "partners" in needs:
            raise ValueError(f"transforms: {mixing} and {name} both mix images. Keep one of them")
        if mixing and "pixels" in needs:
            raise ValueError(f"transforms: {name} needs whole pixel values, which {mixing} mixes. Put {name} before it")
        if "partners" in needs:
            mixing = name
