"""From the key `search` of a file to its space: names are found, conditions are followed, values are checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kdas.errors import nearest
from sweeps.space.places import PARTS, Home, homes_of, unknown
from sweeps.space.ranges import RangeConfig
from sweeps.space.space import Parameter, Space

Needs = dict[str, list[Any]]


def space_from(search: Mapping[str, RangeConfig], sampler: Mapping[str, Any], loss: Any) -> Space:
    """The space of a sweep.

    Args: sampler, loss: checked parts, those of all trials where these are not searched themselves.
    Raises: ValueError: for an empty space, an unknown parameter, a value that is refused, or a condition that cannot
        hold; one line that names the key.
    """
    if not search:
        raise ValueError(f"search: the space is empty. Name at least one parameter of {sampler['name']}, or kd_weight")
    homes = homes_of(_choices(search, "sampler", sampler), _choices(search, "loss", loss))
    found: dict[str, Parameter] = {}
    for name in _parents_first(search, {*PARTS, *homes}):
        values, needs = search[name], {}
        for parent, wanted in values.when.items():
            needs[parent] = _wanted(found[parent], wanted, f"search.{name}.when.{parent}")
        places = _places(name, homes, needs, search, sampler)
        for part, owners in _owners(places).items():
            if part in needs or len(owners) < len(found[part].values.choices or []):
                needs[part] = [choice for choice in needs.get(part, owners) if choice in owners]
        found[name] = _parameter(name, values, places, needs)
        _check_reachable(found[name], found)
    return Space(tuple(found.values()))


def _choices(search: Mapping[str, RangeConfig], part: str, fixed: Any) -> list[Any]:
    if part not in search:
        return [fixed]
    choices = search[part].choices
    if choices is None:
        raise ValueError(f"search.{part}: takes no range. Give a list of choices")
    return choices


def _parents_first(search: Mapping[str, RangeConfig], known: Iterable[str]) -> list[str]:
    """The names in the file's order, but parts before their parameters and each after those it waits for.

    Raises: ValueError: for a condition on what is not searched, or a circle of conditions.
    """
    ordered: list[str] = []

    def visit(name: str, waiting: tuple[str, ...]) -> None:
        if name in waiting:
            circle = " -> ".join([*waiting[waiting.index(name) :], name])
            raise ValueError(f"search.{name}.when: waits for itself: {circle}. Take one of these conditions away")
        for parent in search[name].when:
            if parent not in search:
                mend = "Search it too, or take the condition away" if parent in known else nearest(parent, search)
                raise ValueError(f"search.{name}.when.{parent}: is not searched. {mend}".rstrip("."))
            visit(parent, (*waiting, name))
        if name not in ordered:
            ordered.append(name)

    for name in (*(part for part in PARTS if part in search), *search):
        visit(name, ())
    return ordered


def _wanted(parent: Parameter, given: Any, where: str) -> list[Any]:
    """The values of a parameter that a condition names: one, or any of a list."""
    if parent.values.values(parent.kind) is None:
        raise ValueError(
            f"{where}: {parent.name} is a range, which hardly ever meets a value. Give search.{parent.name} a step, or"
            " choices"
        )
    whole = parent.matching(given)
    alternatives = given if isinstance(given, list) and not whole else [given]
    matched = []
    for each in alternatives:
        meant = whole or parent.matching(each)
        if not meant:
            raise ValueError(f"{where}: {each} is never proposed: search.{parent.name} is {parent.values}. Change one")
        matched += [value for value in meant if value not in matched]
    if not matched:
        raise ValueError(f"{where}: is an empty list. Name a value of {parent.name}")
    return matched


def _places(
    name: str,
    homes: Mapping[str, list[Home]],
    needs: Needs,
    search: Mapping[str, RangeConfig],
    sampler: Mapping[str, Any],
) -> tuple[Home, ...]:
    """Where the parameter lives under its own conditions; none for a part itself, whose choices are checked."""
    if name in PARTS:
        return ()
    if name not in homes:
        raise unknown(name, homes, _choices(search, "sampler", sampler))
    places = [home for home in homes[name] if home.owner is None or _is_wanted(home, needs)]
    if not places:
        part = str(homes[name][0].path[0])
        raise ValueError(f"search.{name}.when.{part}: has no {name} there. Name a {part} that has it")
    if len({home.kind for home in places}) > 1:
        part = str(homes[name][0].path[0])
        raise ValueError(f"search.{name}: is of different kinds. Say for which {part} it is meant, with when")
    return tuple(places)


def _is_wanted(home: Home, needs: Needs) -> bool:
    wanted = needs.get(str(home.path[0]))
    return wanted is None or home.owner in wanted


def _owners(places: tuple[Home, ...]) -> dict[str, list[Any]]:
    """The choices of a part that have the parameter, where the part is searched."""
    owners: dict[str, list[Any]] = {}
    for home in places:
        if home.owner is not None:
            owners.setdefault(str(home.path[0]), []).append(home.owner)
    return owners


def _parameter(name: str, values: RangeConfig, places: tuple[Home, ...], needs: Needs) -> Parameter:
    where = f"search.{name}"
    if not places:
        return Parameter(name, (name,), values, None, needs)
    kind = places[0].kind
    if values.choices is None and kind is None:
        raise ValueError(f"{where}: takes no range. Give a list of choices")
    for home in places:
        for value in values.extremes(None):
            home.check(where, value)
    if kind is int and values.step is not None and not values.step.is_integer():
        raise ValueError(f"{where}.step: {values.step:g} is no whole number, and {name} takes only those. Change it")
    return Parameter(name, places[0].path, values, kind, needs, places)


def _check_reachable(parameter: Parameter, found: Mapping[str, Parameter]) -> None:
    """Conditions all hold together, and with those of the parameters that they ask about.

    Each says that another parameter has one of some values, so what they allow of each is what all of them allow.
    """
    allowed: Needs = {}
    waiting = [parameter]
    while waiting:
        for name, values in waiting.pop().needs.items():
            before = allowed.get(name, values)
            allowed[name] = [value for value in before if value in values]
            if not allowed[name]:
                raise ValueError(
                    f"search.{parameter.name}.when: can never hold, since {name} would need two values at once. Change"
                    f" the condition"
                )
            waiting.append(found[name])
