"""The points that a search tries first: KDAS with its authors' settings, the file's `known_points`, the warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdas.parts.known import SAMPLERS
from kdas.parts.terms import checked_terms
from kdas.recipe.config import Recipe
from kdas.recipe.optimizer import OptimizerConfig
from kdas.recipe.presets import filled_in
from sweeps.file.blocks import WarmPoint
from sweeps.space.places import RECIPE_PARAMETERS, value_at
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


def with_taken(space: Space, search: str, taken: Sequence[WarmPoint]) -> Space:
    """The space with the points of the warm start after those that it tries first.

    Args: search: the searched method, "" for the file's own search; taken: the points of all searches.
    Raises: ValueError: for a point outside the space.
    """
    points = [
        space.point(each.point, f"warm_start.taken.{number}.point")
        for number, each in enumerate(taken)
        if each.search == search
    ]
    new = [point for number, point in enumerate(points) if point not in (*space.first, *points[:number])]
    return replace(space, first=(*space.first, *new))


def _papers_point(space: Space, recipe: Recipe, sampler: Mapping[str, Any]) -> Point | None:
    """The defaults of the file's preset for every searched parameter; None if they are outside the space."""
    if sampler["name"] != PAPERS_SAMPLER and all(parameter.name != "sampler" for parameter in space.parameters):
        return None
    point: Point = {}
    for parameter in space.parameters:
        if not parameter.exists_at(point):
            continue
        usual = _defaults(recipe, point.get("loss", recipe.loss))
        try:
            meant = parameter.matching(value_at(usual, parameter.path))
        except KeyError:
            meant = []
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
