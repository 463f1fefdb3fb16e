"""What a sweep compares: all that its trials are made of except the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import key_of
from kdas.records import searched_method
from sweeps.space.space import Space


@dataclass(frozen=True)
class Search:
    """A method whose settings are searched.

    `name`: the user's name for it; "" for the file's own search, whose methods are named after the proposed sampler.
    `content`: that of a trial file, without what is searched; `overrides`: the keys that differ from the recipe.
    """

    name: str
    content: Mapping[str, Any]
    space: Space
    overrides: Mapping[str, Any]

    def method(self, sampler: str) -> str:
        """Its name in tables. Args: sampler: name of the proposed sampler."""
        return searched_method(self.name or sampler)

    @property
    def samplers(self) -> list[str]:
        """The names of the samplers that it may propose."""
        chosen = next((each.values.choices for each in self.space.parameters if each.name == "sampler"), None)
        return [part["name"] for part in chosen or [self.content["sampler"]]]


@dataclass(frozen=True)
class Baseline:
    """A method with fixed settings. `content`: of a trial file; `overrides`: its keys that differ from the recipe."""

    content: Mapping[str, Any]
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Methods:
    """What is compared.

    `content`: the content of a trial file with what all trials share, and the sampler whose parameters are searched;
    `baselines`: methods with fixed settings, by the user's names; `searches`: methods whose settings are searched, the
    file's own search first; `plain`: the baseline that the target refers to, the first one that trains on every sample
    with the file's recipe.
    """

    content: Mapping[str, Any]
    baselines: Mapping[str, Baseline]
    searches: tuple[Search, ...]
    plain: str

    @cached_property
    def recipe(self) -> TrialConfig:
        """What all trials share, as a trial that trains on every sample."""
        return TrialConfig(**{**self.content, "sampler": "full"})

    @cached_property
    def others(self) -> Mapping[str, TrialConfig]:
        """A trial for each further teacher that methods name, in their order, by `key_of` its block."""
        found: dict[str, TrialConfig] = {}
        contents = [*(each.content for each in self.baselines.values()), *(each.content for each in self.searches)]
        for content in contents:
            if (key := key_of(content["teacher"])) not in (key_of(self.recipe.teacher), *found):
                found[key] = TrialConfig(**content)
        return found

    @property
    def recipes(self) -> tuple[TrialConfig, ...]:
        """The recipe, then a trial for each further teacher."""
        return (self.recipe, *self.others.values())

    @property
    def log_parameters(self) -> tuple[str, ...]:
        """The searched parameters that are drawn on a logarithmic scale."""
        parameters = (parameter for each in self.searches for parameter in each.space.parameters)
        return tuple(dict.fromkeys(parameter.name for parameter in parameters if parameter.values.log))

    @property
    def plain_methods(self) -> tuple[str, ...]:
        """The names, in tables, of the methods that train on every sample."""
        fixed = [name for name, each in self.baselines.items() if each.content["sampler"]["name"] == "full"]
        searched = [each.method("full") for each in self.searches if "full" in each.samplers]
        return (*fixed, *searched)
