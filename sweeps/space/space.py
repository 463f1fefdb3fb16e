"""The search space: every searched parameter with its values, its place, and the conditions under which it exists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from kdas.parts.terms import as_terms
from kdas.recipe.optimizer import changed_optimizer
from kdas.recipe.presets import usual_optimizer, usual_weights
from sweeps.space.places import PARTS, Path, Place
from sweeps.space.ranges import RangeConfig

if TYPE_CHECKING:  # a file is checked without it
    import optuna
    from optuna.distributions import BaseDistribution

Point = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its path in a trial file, and its values.

    `kind` is int or float for a range of numbers. `needs` holds other searched parameters, each with the only values
    for which this one exists.
    """

    name: str
    path: Path
    values: RangeConfig
    kind: type | None
    needs: Mapping[str, list[Any]]
    places: tuple[Place, ...] = ()

    def exists_at(self, point: Mapping[str, Any]) -> bool:
        """Args: point: values of the parameters that come before this one."""
        return all(name in point and point[name] in values for name, values in self.needs.items())

    def matching(self, given: Any) -> list[Any]:
        """The values that `given` refers to. A part may be given by its name or by some of its keys."""
        if self.name not in PARTS:
            return [given] if self.values.holds(given) else []
        return [choice for choice in self.values.choices or [] if _is_meant(choice, given)]


def _is_meant(choice: Any, given: Any) -> bool:
    if isinstance(given, str) and isinstance(choice, Mapping):
        return bool(choice["name"] == given)
    if isinstance(given, Mapping) and isinstance(choice, Mapping):
        return all(choice.get(str(key).lower()) == value for key, value in given.items())
    return bool(choice == given)


@dataclass(frozen=True)
class Space:
    """All searched parameters, each after those that its existence depends on. `first` are the points tried first."""

    parameters: tuple[Parameter, ...]
    first: tuple[Point, ...] = ()

    def __getitem__(self, name: str) -> Parameter:
        return next(parameter for parameter in self.parameters if parameter.name == name)

    @property
    def is_conditional(self) -> bool:
        return any(parameter.needs for parameter in self.parameters)

    def asked_at(self, point: Mapping[str, Any]) -> list[Parameter]:
        """The parameters that exist at a point."""
        return [parameter for parameter in self.parameters if parameter.exists_at(point)]

    def point(self, given: Mapping[str, Any], where: str) -> Point:
        """A point given in a file, in the order of the space and with its parts written out.

        Raises: ValueError: for a missing or superfluous parameter, or a value outside the space.
        """
        point: Point = {}
        for parameter in self.parameters:
            name = parameter.name
            if name in given and parameter.exists_at(point):
                point[name] = _the_one(parameter, given[name], f"{where}.{name}")
        odd = sorted({parameter.name for parameter in self.asked_at(point)} ^ set(given))
        if odd and self.is_conditional:
            what = "is not used" if odd[0] in given else "is required"
            raise ValueError(
                f"{where}: {odd[0]} {what} with the point's other values. {'Remove' if odd[0] in given else 'Add'} it"
            )
        if odd:
            raise ValueError(
                f"{where}: expected a value for every key of search, and no other. Add or remove {', '.join(odd)}"
            )
        return point

    def drawn(self, trial: optuna.Trial) -> Point:
        """The point that a study proposes for this trial."""
        point: Point = {}
        for parameter in self.parameters:
            if parameter.exists_at(point):
                value = _suggested(trial, parameter.name, parameter.values.distribution(parameter.kind))
                point[parameter.name] = self._readable(parameter, value)
        return point

    def to_optuna(self, point: Mapping[str, Any]) -> Point:
        """A point with its values in Optuna's form."""
        return {name: self[name].values.to_optuna(value) for name, value in point.items()}

    def from_optuna(self, proposed: Mapping[str, Any]) -> Point | None:
        """The point of a proposal in Optuna's form; None if a kill cut its record short."""
        point = {
            parameter.name: self._readable(parameter, proposed[parameter.name])
            for parameter in self.parameters
            if parameter.name in proposed
        }
        return point if all(parameter.name in point for parameter in self.asked_at(point)) else None

    def _readable(self, parameter: Parameter, proposed: Any) -> Any:
        """A proposed value as it is trained with. Values of the points that are tried first are not rounded."""
        given = [point[parameter.name] for point in self.first if parameter.name in point]
        if parameter.values.choices is None and proposed in given:
            return given[given.index(proposed)]
        return parameter.values.from_optuna(proposed)

    def combinations(self, values: Mapping[str, Sequence[Any]]) -> list[Point]:
        """Every combination of some parameters and of those that their conditions refer to.

        Args: values: the values to combine, by parameter.
        """
        wanted = set(values)
        for parameter in reversed(self.parameters):
            if parameter.name in wanted:
                wanted.update(parameter.needs)
        points: list[Point] = [{}]
        for parameter in (each for each in self.parameters if each.name in wanted):
            several = values.get(parameter.name) or parameter.values.values(parameter.kind) or []
            with_it = [
                {**point, parameter.name: value} for point in points if parameter.exists_at(point) for value in several
            ]
            points = [point for point in points if not parameter.exists_at(point)] + with_it
        return points

    def applied(self, content: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a trial with the values of a point.

        A loss comes with its authors' weights, unless it is the file's loss or the weights are searched too.
        """
        result = dict(content)
        for parameter in self.parameters:
            if parameter.name not in point:
                continue
            value = point[parameter.name]
            if parameter.name == "loss" and names_of(value) != names_of(content["loss"]):
                # Parts come first in a space, so searched weights are applied later and override these.
                result.update(usual_weights(value, content))
            if parameter.path[0] != "optimizer":
                result = _put(result, parameter.path, value)
        if of_optimizer := {str(each.path[-1]): point[each.name] for each in self._of_optimizer if each.name in point}:
            usual = partial(usual_optimizer, content=result)
            result["optimizer"] = changed_optimizer(content["optimizer"], of_optimizer, usual)
        return result

    @property
    def _of_optimizer(self) -> list[Parameter]:
        return [parameter for parameter in self.parameters if parameter.path[0] == "optimizer"]


def names_of(loss: Any) -> list[str]:
    """The names of the losses that are summed."""
    return [part["name"] for _, part in as_terms(loss)]


def _the_one(parameter: Parameter, given: Any, where: str) -> Any:
    meant = parameter.matching(given)
    if not meant:
        raise ValueError(f"{where}: expected {parameter.values}, as in search.{parameter.name}, got {given}")
    if len(meant) > 1:
        raise ValueError(f"{where}: {given} fits several of {meant}. Add parameters that tell them apart")
    if parameter.name in PARTS:
        return meant[0]
    for place in parameter.places:
        place.check(where, given)
    return given


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    import optuna

    match distribution:
        case optuna.distributions.CategoricalDistribution():
            return trial.suggest_categorical(name, distribution.choices)
        case optuna.distributions.IntDistribution():
            return trial.suggest_int(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
        case optuna.distributions.FloatDistribution():
            return trial.suggest_float(
                name, distribution.low, distribution.high, step=distribution.step, log=distribution.log
            )
    raise AssertionError(f"{name}: {distribution} is not a distribution of a range")


def _put(content: Any, path: Path, value: Any) -> Any:
    """A copy of nested content with one value replaced."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(content, BaseModel):
        content = content.model_dump()
    copy = list(content) if isinstance(content, (list, tuple)) else dict(content)
    copy[first] = _put(copy[first], rest, value) if rest else value  # type: ignore[index]
    return copy
