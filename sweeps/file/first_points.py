"""The points that a search tries first: KDAS with its authors' settings, then the file's `known_points`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from kdas.parts.known import LOSSES, SAMPLERS
from kdas.parts.terms import checked_terms
from kdas.recipe.config import Recipe
from kdas.recipe.optimizer import OptimizerConfig
from kdas.recipe.presets import filled_in
from sweeps.space.places import RECIPE_PARAMETERS
from sweeps.space.space import Point, Space, names_of

PAPERS_SAMPLER = "kdas"


def first_points(
    space: Space,
    recipe: Recipe,
    sampler: Mapping[str, Any],
    points: Sequence[Mapping[str, Any]],
) -> Space:
    """The space with the points that are tried first, each once, starting with the paper's.

    Args: recipe: the file's, whose preset and pair say which settings are the authors'; sampler: its checked sampler;
        points: its `known_points`.
    Raises: ValueError: for a known point outside the space.
    """
    known = [space.point(point, f"known_points.{number}") for number, point in enumerate(points)]
    paper = _papers_point(space, recipe, sampler)
    if paper is not None:
        # In the file's spelling, if the file has it too.
        known.insert(0, next((point for point in known if point == paper), paper))
    unique = [point for number, point in enumerate(known) if point not in known[:number]]
    return replace(space, first=tuple(unique))


def _papers_point(space: Space, recipe: Recipe, sampler: Mapping[str, Any]) -> Point | None:
    """The defaults of the file's preset for every searched parameter; None if they are outside the space."""
    if sampler["name"] != PAPERS_SAMPLER and all(parameter.name != "sampler" for parameter in space.parameters):
        return None
    point: Point = {}
    for parameter in space.parameters:
        if not parameter.exists_at(point):
            continue
        usual = _defaults(recipe, point.get("loss", recipe.loss))
        meant = parameter.matching(reduce(_below, parameter.path, usual))
        if not meant:
            return None
        point[parameter.name] = meant[0]
    return point


def _defaults(recipe: Recipe, loss: Any) -> dict[str, Any]:
    """The content of a trial that names only preset, pair, sampler and losses: everything else is a default."""
    terms: Any = [{"name": name, "weight": 1.0} for name in names_of(loss)] if isinstance(loss, list) else loss["name"]
    pair = {"dataset": recipe.dataset, "teacher": {"model": recipe.teacher.model}, "student": recipe.student}
    content = filled_in({"preset": recipe.preset, **pair, "sampler": PAPERS_SAMPLER, "loss": terms})
    return {
        **{name: Recipe.model_fields[name].default for name in RECIPE_PARAMETERS},
        **content,
        # Its authors' number belongs to another data set.
        "epochs": recipe.epochs,
        "sampler": SAMPLERS.checked(content["sampler"]),
        "loss": checked_terms(content["loss"]),
        "optimizer": dict(OptimizerConfig(**content.get("optimizer", {}))),
    }


def _below(content: Any, step: str | int) -> Any:
    if not isinstance(content, Mapping) or step in content:
        return content[step]
    # A checked loss leaves out the common keys that have their default.
    return LOSSES.common_fields[str(step)].default if step in LOSSES.common_fields else None
