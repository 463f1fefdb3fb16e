"""Turns the key `search` of a file into its space: resolves names and conditions, and checks values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from kdas.errors import nearest
from kdas.parts.reading import check_all
from sweeps.space.places import PARTS, Place, places_of, unknown
from sweeps.space.ranges import RangeConfig
from sweeps.space.space import Parameter, Space

# Other searched parameters, each with the values for which a parameter exists.
Conditions = dict[str, list[Any]]


def space_from(search: Mapping[str, RangeConfig], sampler: Mapping[str, Any], loss: Any) -> Space:
    """The space of a sweep.

    Args: sampler, loss: checked parts that all trials share, unless they are searched.
    Raises: ValueError: for an empty space, unknown parameters, invalid values, or conditions that can never hold;
        names the key of each.
    """
    if not search:
        raise ValueError(f"search: the space is empty. Name at least one parameter of {sampler['name']}, or kd_weight")
    samplers = _choices_of("sampler", search, sampler)
    places = places_of(samplers, _choices_of("loss", search, loss))
    check_all(*(partial(_check_known, name, places, samplers) for name in search))
    parameters: dict[str, Parameter] = {}

    def add(name: str) -> None:
        owners = {place.part for place in places.get(name, ()) if place.owner is not None}
        if not owners.union(search[name].when) - parameters.keys():  # else one of these has a mistake of its own
            parameters[name] = _resolved(name, search[name], places, parameters)

    check_all(*(partial(add, name) for name in _parents_first(search, places)))
    return Space(tuple(parameters.values()))


def _check_known(name: str, places: Mapping[str, Sequence[Place]], samplers: Sequence[Any]) -> None:
    if name not in PARTS and name not in places:
        raise unknown(name, places, samplers)


def _resolved(
    name: str, values: RangeConfig, places: Mapping[str, Sequence[Place]], parameters: Mapping[str, Parameter]
) -> Parameter:
    """A parameter, after those that its conditions refer to."""
    conditions = _conditions_of(name, values, parameters)
    if name in PARTS:  # its choices were checked on reading the file
        parameter = Parameter(name, (name,), values, None, conditions)
    else:
        possible = _possible_places(name, places[name], conditions)
        conditions = _with_owners(conditions, possible, parameters)
        parameter = _checked_parameter(name, values, conditions, possible)
    _check_reachable(parameter, parameters)
    return parameter


def _choices_of(part: str, search: Mapping[str, RangeConfig], fixed: Any) -> list[Any]:
    """The parts that trials choose between: the searched ones, or the one that all trials share."""
    if part not in search:
        return [fixed]
    choices = search[part].choices
    if choices is None:
        raise ValueError(f"search.{part}: expected a list of choices, got a range")
    return choices


def _conditions_of(name: str, values: RangeConfig, parameters: Mapping[str, Parameter]) -> Conditions:
    """The conditions of a parameter under `when`."""
    return {
        parent: _wanted(parameters[parent], given, f"search.{name}.when.{parent}")
        for parent, given in values.when.items()
    }


def _parents_first(search: Mapping[str, RangeConfig], places: Mapping[str, Sequence[Place]]) -> list[str]:
    """The names in the file's order, except that parts come first and each name after those it depends on.

    Raises: ValueError: for a condition on a parameter that is not searched, or for circular conditions.
    """
    ordered: list[str] = []

    def visit(name: str, waiting: tuple[str, ...]) -> None:
        if name in waiting:
            circle = " -> ".join([*waiting[waiting.index(name) :], name])
            raise ValueError(f"search.{name}.when: depends on itself: {circle}. Remove one of these conditions")
        for parent in search[name].when:
            if parent not in search:
                can_be = parent in PARTS or parent in places
                remedy = "Search it too, or remove the condition" if can_be else nearest(parent, search)
                raise ValueError(f"search.{name}.when.{parent}: is not searched. {remedy}".rstrip("."))
            visit(parent, (*waiting, name))
        for part in dict.fromkeys(place.part for place in places.get(name, ()) if place.owner is not None):
            visit(part, (*waiting, name))
        if name not in ordered:
            ordered.append(name)

    for name in (*(part for part in PARTS if part in search), *search):
        visit(name, ())
    return ordered


def _wanted(parent: Parameter, given: Any, where: str) -> list[Any]:
    """The values of a parameter that a condition allows: the given one, or those of a list."""
    if parent.values.values(parent.kind) is None:
        raise ValueError(
            f"{where}: {parent.name} is a continuous range, which almost never takes a given value. Give"
            f" search.{parent.name} a step or choices"
        )
    whole = parent.matching(given)
    alternatives = given if isinstance(given, list) and not whole else [given]
    matched = []
    for each in alternatives:
        meant = whole or parent.matching(each)
        if not meant:
            raise ValueError(
                f"{where}: {each} is never proposed, since search.{parent.name} is {parent.values}. Change one of them"
            )
        matched += [value for value in meant if value not in matched]
    if not matched:
        raise ValueError(f"{where}: is an empty list. Name a value of {parent.name}")
    return matched


def _possible_places(name: str, places: Sequence[Place], conditions: Conditions) -> list[Place]:
    """The places of a parameter that its conditions allow."""

    def is_possible(place: Place) -> bool:
        return place.owner is None or place.part not in conditions or place.owner in conditions[place.part]

    possible, part = list(filter(is_possible, places)), places[0].part
    if not possible:
        raise ValueError(f"search.{name}.when.{part}: that {part} has no {name}. Name one that has it")
    if len({place.kind for place in possible}) > 1:
        raise ValueError(f"search.{name}: has different types in different parts. Choose the {part} with when")
    return possible


def _with_owners(conditions: Conditions, places: Sequence[Place], parameters: Mapping[str, Parameter]) -> Conditions:
    """The conditions, plus one for each searched part: it must be a choice that has the parameter."""
    owners: Conditions = {}
    for place in places:
        if place.owner is not None:
            owners.setdefault(place.part, []).append(place.owner)
    result = dict(conditions)
    for part, having in owners.items():
        if part in conditions or len(having) < len(parameters[part].values.choices or []):
            result[part] = [choice for choice in conditions.get(part, having) if choice in having]
    return result


def _checked_parameter(name: str, values: RangeConfig, conditions: Conditions, places: Sequence[Place]) -> Parameter:
    """The parameter. Raises: ValueError: for a range or a value that one of its places does not allow."""
    where, kind = f"search.{name}", places[0].kind
    if values.choices is None and kind is None:
        raise ValueError(f"{where}: expected a list of choices, got a range")
    for place in places:
        for value in values.extremes(None):
            place.check(where, value)
    if kind is int and values.step is not None and not values.step.is_integer():
        raise ValueError(f"{where}.step: expected a whole number, got {values.step:g}")
    return Parameter(name, places[0].path, values, kind, conditions, tuple(places))


def _check_reachable(parameter: Parameter, found: Mapping[str, Parameter]) -> None:
    """Check that all conditions can hold together, including those of the parameters that they refer to.

    Each condition allows some values of another parameter; at least one value must satisfy all conditions on it.
    """
    allowed: Conditions = {}
    waiting = [parameter]
    while waiting:
        for name, values in waiting.pop().needs.items():
            before = allowed.get(name, values)
            allowed[name] = [value for value in before if value in values]
            if not allowed[name]:
                raise ValueError(
                    f"search.{parameter.name}.when: is never true: it requires two values of {name} at once. Change"
                    f" the condition"
                )
            waiting.append(found[name])
