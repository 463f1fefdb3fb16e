"""Checks between the blocks of a sweep file: what would go wrong in a trial, or be asked of what cannot do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kdas.parts.reading import explain
from kdas.recipe.config import Recipe, TrialConfig
from sweeps.space.space import Space

if TYPE_CHECKING:
    from sweeps.file.spec import SweepSpec

# Keys that a trial file checks together, so each may be right and a combination wrong.
_TOGETHER = (
    ("batch_size", "accumulate"),
    ("loss", "ce_weight", "kd_weight"),
    ("optimizer.warmup_epochs",),
    ("sampler", "warmup_epochs"),
)


def trial_content(spec: SweepSpec) -> dict[str, Any]:
    """What all trials of a sweep have in common, with the sampler whose parameters are searched."""
    return {**{name: getattr(spec, name) for name in Recipe.model_fields}, "sampler": spec.sampler}


def check_combinations(spec: SweepSpec, space: Space) -> None:
    """Raises: ValueError: if the ends of searched ranges do not go together."""
    content = trial_content(spec)
    for names in _TOGETHER:
        ends = {
            parameter.name: parameter.values.extremes(parameter.kind)
            for parameter in space.parameters
            if parameter.name in names or (names[0] == "loss" and parameter.path[-1] == "weight")
        }
        for point in space.combinations(ends) if ends else ():
            try:
                TrialConfig(**space.applied(content, point))
            except ValidationError as error:
                raise ValueError(f"search: with {_words(point)}: {explain(error, TrialConfig)}".rstrip(".")) from error


def _words(point: Mapping[str, Any]) -> str:
    shown = {name: value["name"] if isinstance(value, Mapping) else value for name, value in point.items()}
    return " and ".join(f"{name} {value}" for name, value in shown.items())


def check_algorithm(algorithm: str, objective: str, space: Space) -> None:
    """Raises: ValueError: if the algorithm cannot search this space, or not for this objective."""
    refused = f"algorithm: {algorithm}"
    for parameter in space.parameters:
        where = f"search.{parameter.name}"
        if algorithm in ("grid", "brute_force") and parameter.values.values(parameter.kind) is None:
            raise ValueError(f"{refused} tries every value, and {where} has no end of them. Give it a step or choices")
        if algorithm in ("grid", "cmaes") and parameter.needs:
            instead = "brute_force" if algorithm == "grid" else "tpe"
            raise ValueError(f"{refused} cannot leave a parameter out, and {where} is conditional. Take {instead}")
        if algorithm == "cmaes" and parameter.values.choices is not None:
            raise ValueError(f"{refused} moves through numbers, and {where} has choices. Give it a range, or take tpe")
    if algorithm == "cmaes" and len(space.parameters) < 2:
        raise ValueError(f"{refused} needs two parameters or more. Search another one, or take tpe")
    if algorithm == "cmaes" and objective == "pareto":
        raise ValueError(f"{refused} knows one objective, and pareto has two. Take nsga2, tpe or gp")


def check_scheduler(scheduler: str, objective: str) -> None:
    """Raises: ValueError: if the scheduler would stop trials that the objective needs."""
    if scheduler == "capping" and objective != "tta":
        raise ValueError(
            f"scheduler: capping stops settings that cannot be the soonest any more, and these may still be the best by"
            f" {objective}: it is exact for tta alone. Say none, asha or median"
        )
