"""The search space: parameters with ranges or choices, checked against the schema of the searched sampler."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import optuna
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, create_model, model_validator

from kdas.config import Recipe, Strict
from kdas.reading import explain, nearest
from kdas.samplers import SAMPLERS

# What may be searched besides the sampler's own parameters: the best weights depend on how much data is kept.
RECIPE_PARAMETERS = ("ce_weight", "kd_weight")


class RangeConfig(Strict):
    """Values of one parameter: from `low` to `high`, or one of `choices`."""

    low: float | None = Field(None, description="Give low and high, or choices.")
    high: float | None = Field(None, description="Give low and high, or choices.")
    log: bool = Field(False, description="Whether small and large values are equally likely by order of magnitude.")
    choices: list[Any] | None = Field(None, min_length=1, description="A list of values.")

    @model_validator(mode="after")
    def _one_form(self) -> RangeConfig:
        if self.choices is not None:
            if (self.low, self.high, self.log) != (None, None, False):
                raise ValueError("has choices and a range. Give low and high, or choices")
        elif self.low is None or self.high is None:
            raise ValueError("needs low and high, or choices")
        elif not self.low < self.high:
            raise ValueError(f"low {self.low:g} is not under high {self.high:g}. Swap or widen them")
        elif self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range must start over 0, not at {self.low:g}. Raise low")
        return self

    def holds(self, value: Any) -> bool:
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"one of {self.choices}" if self.choices is not None else f"{self.low:g} to {self.high:g}"


def _as_range(given: Any) -> Any:
    return {"choices": given} if isinstance(given, list) else given


Range = Annotated[RangeConfig, BeforeValidator(_as_range)]


def _schema(name: str, sampler: str) -> type[BaseModel]:
    return Recipe if name in RECIPE_PARAMETERS else SAMPLERS[sampler].schema


def check_space(search: Mapping[str, RangeConfig], sampler: str) -> None:
    """Args: sampler: name of the searched one.

    Raises: ValueError: for an empty space, an unknown parameter or a value that is refused.
    """
    if not search:
        raise ValueError(f"search: the space is empty. Name at least one parameter of {sampler}, or kd_weight")
    known = [*SAMPLERS[sampler].schema.model_fields, *RECIPE_PARAMETERS]
    for name, values in search.items():
        if name not in known:
            raise ValueError(f"search.{name}: no parameter of {sampler}. {nearest(name, known)}".rstrip("."))
        schema = _schema(name, sampler)
        if values.choices is None and schema.model_fields[name].annotation not in (int, float):
            raise ValueError(f"search.{name}: takes no range. Give a list of choices")
        for value in values.choices if values.choices is not None else (values.low, values.high):
            _check_value(f"search.{name}", name, value, schema)


def check_points(points: Sequence[Mapping[str, Any]], search: Mapping[str, RangeConfig], sampler: str) -> None:
    """Raises: ValueError: for a known point that the space does not hold, or a value that is refused."""
    for number, point in enumerate(points):
        where = f"known_points.{number}"
        if set(point) != set(search):
            odd = sorted(set(point) ^ set(search))
            raise ValueError(f"{where}: {', '.join(odd)} must stand in both the point and search. Add or remove it")
        for name, value in point.items():
            if not search[name].holds(value):
                raise ValueError(
                    f"{where}.{name}: {value} is not in search.{name}, {search[name]}. Change it, or the range"
                )
            _check_value(f"{where}.{name}", name, value, _schema(name, sampler))


def _check_value(where: str, name: str, value: Any, schema: type[BaseModel]) -> None:
    single = create_model("Searched", **{name: (schema.model_fields[name].annotation, schema.model_fields[name])})  # type: ignore[call-overload]
    # A range is read as floats; a whole-number parameter is proposed as a whole number.
    is_whole = isinstance(value, float) and value.is_integer()
    given = int(value) if is_whole and schema.model_fields[name].annotation is int else value
    try:
        single.model_validate({name: given})
    except ValidationError as error:
        _, _, text = explain(error, single).partition(": ")
        raise ValueError(f"{where}: {text}".rstrip(".")) from error


def distributions(search: Mapping[str, RangeConfig], sampler: str) -> dict[str, optuna.distributions.BaseDistribution]:
    """The space in Optuna's words. Choices are named by their JSON, since Optuna keeps only plain values."""
    return {
        name: _distribution(values, _schema(name, sampler).model_fields[name].annotation)
        for name, values in search.items()
    }


def _distribution(values: RangeConfig, annotation: Any) -> optuna.distributions.BaseDistribution:
    if values.choices is not None:
        return optuna.distributions.CategoricalDistribution([json.dumps(choice) for choice in values.choices])
    assert values.low is not None and values.high is not None
    if annotation is int:
        return optuna.distributions.IntDistribution(int(values.low), int(values.high), log=values.log)
    return optuna.distributions.FloatDistribution(values.low, values.high, log=values.log)


def to_optuna(point: Mapping[str, Any], search: Mapping[str, RangeConfig]) -> dict[str, Any]:
    """A point in Optuna's words."""
    return {name: json.dumps(value) if search[name].choices is not None else value for name, value in point.items()}


def from_optuna(
    parameters: Mapping[str, Any], search: Mapping[str, RangeConfig], known_points: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """A proposal as sampler parameters. Known points come back as they were given."""
    return {
        name: json.loads(value)
        if search[name].choices is not None
        else _readable(value, search[name], [point[name] for point in known_points])
        for name, value in parameters.items()
    }


def _readable(value: float, values: RangeConfig, known: Sequence[float]) -> float:
    """A real with four significant digits, enough to tell settings apart, and within its range."""
    if value in known:
        return known[known.index(value)]
    if not isinstance(value, float):
        return value
    assert values.low is not None and values.high is not None
    return min(max(float(f"{value:.4g}"), values.low), values.high)
