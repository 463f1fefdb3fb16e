"""Several pairs, datasets or settings side by side: each cell is a separate sweep."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from kdas.errors import brief
from kdas.parts.reading import Mistake, refusal, refused
from kdas.parts.settings import merged

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ARROW = "->"
MOST_CELLS = 200


def is_name(name: str) -> bool:
    """Whether a name may be part of a folder's or a file's name."""
    return _NAME.fullmatch(name) is not None


def cell_contents(content: Mapping[str, Any], known: list[str]) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What each cell changes, and its full content as a sweep file.

    Args: content: that of a sweep file with the key `cells`; known: the keys of a sweep file.
    Raises: PydanticCustomError: for mistakes in `cells`, and for keys that a cell cannot change.
    """
    shared = {key: value for key, value in content.items() if key != "cells"}
    changes = _changes(content["cells"])
    allowed = tuple(each for each in (*known, "pair", "KDAS") if each not in ("cells", "extends"))
    mistakes: list[Mistake] = []
    for name, change in changes.items():
        if not is_name(name):
            mistakes.append(
                Mistake(f"cells.{name}", "is not a valid folder name. Use letters, digits, dots and dashes.")
            )
        for key in change:
            is_empty = key == "cells" and not change[key]  # as in the recorded file of a cell
            if key not in allowed and key.lower() != "kdas" and not is_empty:
                mistakes.append(Mistake(f"cells.{name}.{key}", known=allowed))
    if mistakes:
        raise refusal(*mistakes)
    return {name: (change, merged(shared, change)) for name, change in changes.items()}


def _changes(given: Any) -> dict[str, dict[str, Any]]:
    """What each cell changes: as written, or every combination of a grid."""
    if not isinstance(given, Mapping) or not given:
        raise refused(
            f"expected a mapping, got {brief(given)}. Give names with the keys they change, or a grid of lists.",
            "cells",
        )
    if all(isinstance(values, list) for values in given.values()):
        return _grid(given)
    _check_number(len(given), "Divide them among several files.")
    for name, change in given.items():
        if not isinstance(change, Mapping):
            raise refused(
                f"expected a mapping, got {brief(change)}. Give the keys it changes, or lists for all keys.",
                f"cells.{name}",
            )
    return {str(name): _written_out(change, f"cells.{name}") for name, change in given.items()}


def _grid(given: Mapping[Any, list[Any]]) -> dict[str, dict[str, Any]]:
    for key, values in given.items():
        if not values:
            raise refused("is an empty list. Give at least one value.", f"cells.{key}")
    _check_number(math.prod(map(len, given.values())), "Shorten the lists.")
    cells: dict[str, dict[str, Any]] = {}
    for combination in itertools.product(*given.values()):
        named = dict(zip(map(str, given), combination, strict=True))
        name = "_".join(_short(key, value) for key, value in named.items())
        if name in cells:
            raise refused(
                f"two cells would be called {name}. Name them yourself: cells: {{my_name: {{...}}, ...}}.", "cells"
            )
        cells[name] = _written_out(named, "cells")
    return cells


def _check_number(num_cells: int, remedy: str) -> None:
    if num_cells > MOST_CELLS:
        raise refused(f"expected at most {MOST_CELLS} cells, got {num_cells}. {remedy}", "cells")


def _short(key: str, value: Any) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, Mapping):
        value = value.get("name", value.get("model", "-".join(map(str, value))))
    text = "-".join(part.strip() for part in str(value).split(_ARROW)) if isinstance(value, str) else f"{key}-{value}"
    return re.sub(r"[^A-Za-z0-9._-]+", "-", re.sub(r"[^\w.-]", "-", text)).strip("-.")


def _written_out(change: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The change with `pair: teacher -> student` replaced by the keys `teacher` and `student`."""
    pair = change.get("pair")
    if pair is None:
        return {str(key): value for key, value in change.items()}
    models = [model.strip() for model in str(pair).split(_ARROW)]
    if len(models) != 2 or not all(models):
        raise refused(f"expected teacher -> student, got {pair!r}. For example: vgg13 -> vgg8.", f"{where}.pair")
    for key in ("teacher", "student"):
        if key in change and not (key == "teacher" and isinstance(change[key], Mapping) and "model" not in change[key]):
            raise refused("is also set by pair. Keep one of them.", f"{where}.{key}")
    teacher = {**change.get("teacher", {}), "model": models[0]}
    rest = {str(key): value for key, value in change.items() if key not in ("pair", "teacher")}
    return {**rest, "teacher": teacher, "student": models[1]}
