"""The place of a searched parameter in a trial file: the sampler, the loss, the optimizer, or the recipe."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from kdas.errors import brief, nearest
from kdas.parts.hints import meant_value, written_out
from kdas.parts.known import LOSSES, SAMPLERS
from kdas.parts.reading import explain
from kdas.parts.terms import MAX_WEIGHT
from kdas.recipe.config import Recipe
from kdas.recipe.optimizer import OptimizerConfig

# Keys whose value is a part. If one is searched, the chosen part decides which parameters exist.
PARTS = ("sampler", "loss")
# Keys that may be searched besides parameters of parts and the optimizer. All other keys define the comparison itself:
# data, models, budget, machine.
RECIPE_PARAMETERS = ("epochs", "ce_weight", "kd_weight", "batch_size", "accumulate", "ema_decay", "precision")
# Each value has its own prices, measured before the first trial, so a range would have too many.
_PRICED_BY_VALUE = ("batch_size", "accumulate")

Path = tuple[str | int, ...]


class _Term(BaseModel):
    """What a loss in a list has besides its parameters."""

    weight: float = Field(ge=0, le=MAX_WEIGHT, description="Weight of this loss among several.")


@dataclass(frozen=True)
class Place:
    """One place of a parameter: its path, the schema there, and the searched part that has it.

    `owner` is None if all trials share the part.
    """

    path: Path
    schema: type[BaseModel]
    owner: Any = None

    @property
    def part(self) -> str:
        """The key of a trial file that contains the parameter."""
        return str(self.path[0])

    @property
    def kind(self) -> type | None:
        """The type, int or float, if a range makes sense; else None."""
        field = str(self.path[-1])
        if field in _PRICED_BY_VALUE:
            return None
        annotation = self.schema.model_fields[field].annotation
        kinds = set(get_args(annotation) or (annotation,)) - {NoneType}
        return int if kinds == {int} else float if float in kinds and kinds <= {int, float} else None

    def check(self, where: str, value: Any) -> None:
        """Raises: ValueError: if a trial file would refuse the value. Args: where: the key, for the message."""
        name = str(self.path[-1])
        field = self.schema.model_fields[name]
        kinds = get_args(field.annotation) or (field.annotation,)
        if isinstance(value, bool) and bool not in kinds and (int in kinds or float in kinds):
            raise ValueError(f"{where}: expected a number, got {value}. {field.description or ''}".rstrip(". "))
        if isinstance(value, str) and set(kinds) <= {bool, int, float, NoneType}:
            # A trial file takes '0.1' and 'yes' too, but as choices they are other values than 0.1 and true.
            expected = "true or false" if bool in kinds else "a number" if float in kinds else "a whole number"
            hint = meant_value(value, expected) or field.description or ""
            raise ValueError(f"{where}: expected {expected}, got {brief(value)}. {hint}".rstrip(". "))
        single = _only(self.schema, name)
        # Ranges are read as floats, but whole-number parameters are proposed as whole numbers.
        is_whole = isinstance(value, float) and value.is_integer() and int in kinds
        try:
            single.model_validate({name: int(value) if is_whole else value})
        except ValidationError as error:
            _, _, text = explain(error, single).partition(": ")
            raise ValueError(f"{where}: {text}".rstrip(".")) from error

    def recorded(self, value: Any) -> Any:
        """A valid value as a trial's resolved config holds it: 3 may stand for [3]."""
        name = str(self.path[-1])
        return _only(self.schema, name).model_validate({name: value}).model_dump(mode="json")[name]


@functools.cache
def _only(schema: type[BaseModel], name: str) -> type[BaseModel]:
    """A schema with a single field of another; cached, since building one takes longer than using it."""
    field = schema.model_fields[name]
    config = ConfigDict(allow_inf_nan=False)
    model: type[BaseModel] = create_model("Searched", __config__=config, **{name: (field.annotation, field)})  # type: ignore[call-overload]
    return model


def places_of(samplers: Sequence[Any], losses: Sequence[Any]) -> dict[str, list[Place]]:
    """Every parameter that can be searched, by name, with all its places.

    Args: samplers, losses: the parts that trials choose between; a single one if it is not searched.
    """
    places: dict[str, list[Place]] = {}
    for sampler in samplers:
        for name in SAMPLERS[sampler["name"]].schema.model_fields:
            place = Place(("sampler", name), SAMPLERS[sampler["name"]].schema, sampler if len(samplers) > 1 else None)
            places.setdefault(name, []).append(place)
    for loss in losses:
        for path, schema in _loss_fields(loss):
            place = Place(path, schema, loss if len(losses) > 1 else None)
            places.setdefault(".".join(map(str, path)), []).append(place)
    places.update({f"optimizer.{name}": [Place(("optimizer", name), OptimizerConfig)] for name in _optimizer()})
    places.update({name: [Place((name,), Recipe)] for name in RECIPE_PARAMETERS})
    return places


def value_at(content: Mapping[str, Any], path: Path) -> Any:
    """The value at a path in the content of a trial. Raises: KeyError: if there is none."""
    found: Any = content
    for step in path:
        if isinstance(found, Mapping) and step not in found and step in LOSSES.common_fields:
            found = LOSSES.common_fields[str(step)].default  # a checked loss leaves out those that have their default
            continue
        try:
            found = found[step]
        except (IndexError, TypeError) as error:
            raise KeyError(step) from error
    return found


def _optimizer() -> list[str]:
    return list(OptimizerConfig.model_fields)


def _loss_fields(loss: Any) -> Iterator[tuple[Path, type[BaseModel]]]:
    if isinstance(loss, Mapping):
        schema = LOSSES[loss["name"]].schema
        yield from ((("loss", name), schema) for name in schema.model_fields)
        return
    for number, term in enumerate(loss):
        yield ("loss", number, "weight"), _Term
        schema = LOSSES[term["name"]].schema
        yield from ((("loss", number, name), schema) for name in schema.model_fields)


def unknown(name: str, places: Mapping[str, Any], samplers: Sequence[Any]) -> ValueError:
    """The error for a name that cannot be searched."""
    where, (block, _, key) = f"search.{name}", name.partition(".")
    if block in ("optimizer", "loss"):
        known = [each.removeprefix(f"{block}.") for each in places if each.startswith(f"{block}.")]
        return ValueError(f"{where}: the {block} has no such key. {nearest(key, known)}".rstrip("."))
    if block in Recipe.model_fields:
        return ValueError(
            f"{where}: cannot be searched, since all trials of a sweep must share it. Compare several values"
            f" with cells: {{{block}: [...]}}"
        )
    elsewhere = [place for place in places if place.rpartition(".")[2] == written_out(name)]
    hint = f"Did you mean {' or '.join(elsewhere)}?" if elsewhere else nearest(name, places)
    among = " or ".join(sorted({sampler["name"] for sampler in samplers}))
    return ValueError(f"{where}: is not a parameter of {among}. {hint}".rstrip("."))
