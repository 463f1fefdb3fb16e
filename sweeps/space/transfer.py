"""Takes the settings of a trial of another sweep over into a space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sweeps.space.places import PARTS, value_at
from sweeps.space.space import Parameter, Point, Space, names_of


def transferred(space: Space, content: Mapping[str, Any], trial: Mapping[str, Any]) -> Point:
    """The point that is closest to a trial of another sweep, whatever that sweep searched.

    A value outside the space is replaced by the nearest one: a range that ends before the best value is likely to be
    best at that end. What the trial does not have, such as a parameter of another loss, is as in `content`.

    Args: content: of a trial of this sweep, without what is searched; trial: the content of the other trial.
    Raises: ValueError: if there is no such point; says why.
    """
    point: Point = {}
    num_taken = 0
    if not any(parameter.name == "sampler" for parameter in space.parameters):
        ours, theirs = content["sampler"]["name"], trial["sampler"]["name"]
        if ours != theirs:
            raise ValueError(f"its sampler is {theirs}, and {ours} is searched here")
    for parameter in space.parameters:
        if not parameter.exists_at(point):
            continue
        try:
            value, is_theirs = value_at(trial, parameter.path), True
        except KeyError:
            value, is_theirs = value_at(space.applied(content, point), parameter.path), False
        if not (nearest := _nearest(parameter, value)):
            raise ValueError(f"its {parameter.name} is not among the values of search.{parameter.name}")
        point[parameter.name] = nearest[0]
        num_taken += is_theirs
    if not num_taken:
        raise ValueError("it has none of the parameters that are searched here")
    return point


def _nearest(parameter: Parameter, value: Any) -> list[Any]:
    """The value or the one closest to it. Of parts with the same name, that with the most equal parameters."""
    if parameter.name not in PARTS:
        place, choices = parameter.places[0], parameter.values.choices or []
        same = [choice for choice in choices if place.recorded(choice) == value]
        return same or parameter.values.nearest(value, parameter.kind)
    choices = [choice for choice in parameter.values.choices or [] if names_of(choice) == names_of(value)]
    return sorted(choices, key=lambda choice: -_num_equal(choice, value))[:1]


def _num_equal(one: Any, other: Any) -> int:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return sum(other.get(key) == value for key, value in one.items())
    return int(one == other)
