"""Checks across the blocks of a sweep file: what a trial would refuse, and what an algorithm or rule cannot do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from pydantic import ValidationError

from kdas.parts.reading import below, explain, mistakes_in, refusal
from kdas.recipe.config import TrialConfig
from kdas.recipe.optimizer import OF_SCHEDULE, OWN_KEYS
from kdas.records import searched_method
from sweeps.file.baselines import Method
from sweeps.file.cells import is_name
from sweeps.space.conditions import space_from
from sweeps.space.space import Space
from sweeps.stopping import STOPPING_RULES

MOST_COMBINATIONS = 2000
# Keys that a trial file checks together: each may be valid while a combination is not.
_TOGETHER = (
    ("batch_size", "accumulate"),
    ("loss", "ce_weight", "kd_weight"),
    ("epochs", "optimizer.warmup_epochs"),
    ("epochs", "sampler", "warmup_epochs"),
    ("optimizer.momentum", "optimizer.nesterov", "optimizer.delta"),
    *(("optimizer.name", f"optimizer.{key}") for key in ("clip_norm", *dict.fromkeys(chain(*OWN_KEYS.values())))),
    ("optimizer.schedule", *(f"optimizer.{key}" for key in OF_SCHEDULE)),
)


def check_combinations(content: Mapping[str, Any], space: Space) -> None:
    """Check that a trial with this content accepts every combination of the ends of the searched ranges.

    Raises: ValueError: names the first combination that a trial file would refuse.
    """
    for names in _TOGETHER:
        ends = {
            parameter.name: parameter.values.extremes(parameter.kind)
            for parameter in space.parameters
            if parameter.name in names or (names[0] == "loss" and parameter.path[-1] == "weight")
        }
        if (num_points := math.prod(map(len, ends.values()))) > MOST_COMBINATIONS:
            raise ValueError(
                f"search: {' and '.join(ends)} have {num_points} combinations, too many to check. Give fewer choices"
            )
        for point in space.combinations(ends) if ends else ():
            try:
                TrialConfig(**space.applied(content, point))
            except ValidationError as error:
                raise ValueError(f"search: with {_words(point)}: {explain(error, TrialConfig)}".rstrip(".")) from error


def checked_space(name: str, method: Method, recipe: Mapping[str, Any], algorithm: str, objective: str) -> Space | None:
    """The space of a method to compare with, None if it is not searched.

    Args: name: that of the method; recipe: the content of a trial with the file's recipe.
    Raises: PydanticCustomError: if a trial file would refuse the method, or for a mistake in its search.
    """
    content = method.applied(recipe)
    try:
        TrialConfig(**content)
        if method.search is None:
            return None
        space = space_from(method.search, method.sampler, content["loss"])
        check_algorithm(algorithm, objective, space)
        check_combinations(content, space)
    except ValidationError as error:
        raise refusal(*(each.below(f"baselines.{name}") for each in mistakes_in(error, TrialConfig))) from error
    except ValueError as error:
        raise below(f"baselines.{name}", error) from error
    return space


def check_name_of_search(name: str, samplers: Sequence[str]) -> None:
    """Check the name of a method that is searched. Args: samplers: those that the file's own search proposes."""
    if not is_name(name):
        raise ValueError(
            f"baselines.{name}: is searched, so its name becomes part of a file's. Use letters, digits, dots and dashes"
        )
    if name in samplers:
        raise ValueError(
            f"baselines.{name}: its results would be called {searched_method(name)}, like those of the file's own"
            " search. Rename it"
        )


def _words(point: Mapping[str, Any]) -> str:
    shown = {name: value["name"] if isinstance(value, Mapping) else value for name, value in point.items()}
    return " and ".join(f"{name} {value}" for name, value in shown.items())


def check_algorithm(algorithm: str, objective: str, space: Space) -> None:
    """Raises: ValueError: if the algorithm cannot search this space or optimize this objective."""
    refused = f"algorithm: {algorithm}"
    for parameter in space.parameters:
        where = f"search.{parameter.name}"
        if algorithm in ("grid", "brute_force") and parameter.values.values(parameter.kind) is None:
            raise ValueError(f"{refused} tries every value, but {where} has infinitely many. Give it a step or choices")
        if algorithm in ("grid", "cmaes") and parameter.needs:
            instead = "brute_force" if algorithm == "grid" else "tpe"
            raise ValueError(f"{refused} cannot handle conditions, and {where} has one. Use {instead}")
        if algorithm == "cmaes" and parameter.values.choices is not None:
            raise ValueError(f"{refused} handles numbers only, and {where} has choices. Give it a range, or use tpe")
    if algorithm == "cmaes" and len(space.parameters) < 2:
        raise ValueError(f"{refused} needs at least two parameters. Search another one, or use tpe")
    if algorithm == "cmaes" and objective == "pareto":
        raise ValueError(f"{refused} handles one objective, and pareto has two. Use nsga2, tpe or gp")


def check_scheduler(scheduler: str, objective: str) -> None:
    """Raises: ValueError: if the scheduler would stop trials that the objective needs, or says nothing about it."""
    rule = STOPPING_RULES[scheduler]
    for attribute in ("status", "only_for", "cost_shares"):
        if not hasattr(rule.build, attribute):
            raise ValueError(
                f"scheduler: {scheduler} has no attribute {attribute}. Add it to its class in {rule.module}"
            )
    only_for = rule.build.only_for  # type: ignore[attr-defined]
    if only_for not in (None, objective):
        others = [part.name for part in STOPPING_RULES if getattr(part.build, "only_for", "") is None]
        raise ValueError(
            f"scheduler: {scheduler} is only exact for the objective {only_for}, got {objective}. Use"
            f" {', '.join(sorted(others)[:-1])} or {sorted(others)[-1]}"
        )
