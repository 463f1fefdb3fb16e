"""One trial to run, as the record, the engine and the workers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdas.recipe.config import TrialConfig
from kdas.recipe.presets import usual_weights
from kdas.samplers import SAMPLERS


@dataclass(frozen=True)
class Proposal:
    """What a search proposed: the number of the proposal, the settings as Optuna names them, and which search it was.

    `search` is the name of the searched method, "" for the sweep file's own search.
    """

    number: int
    params: Mapping[str, Any]
    search: str = ""


@dataclass(frozen=True)
class Job:
    """One trial to run: a configuration, a seed, and the method that it counts for."""

    method: str
    phase: str
    config: TrialConfig
    config_id: str
    # Keys of the recipe that the method overrides or searches: the config alone does not tell them from shared keys.
    of_recipe: tuple[tuple[str, Any], ...] = ()
    # Names of the sampler's searched parameters, which are shown even at their defaults.
    searched_of_sampler: tuple[str, ...] = ()
    # Lets the search be rebuilt from the trials. None for jobs that no search proposed.
    proposal: Proposal | None = None

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-s{self.config.seed}"

    @property
    def configuration(self) -> str:
        """The settings in a line: what the method sets, what differs from the sampler's defaults, unusual weights."""
        sampler = dict(self.config.sampler)
        name = sampler.pop("name")
        fields = SAMPLERS[name].schema.model_fields
        shown = [
            f"{parameter} {_readable(value)}"
            for parameter, value in sampler.items()
            if parameter in self.searched_of_sampler or value != _as_stored(fields[parameter].default)
        ]
        pair = self.config.model_dump(include={"preset", "dataset", "teacher", "student"})
        usual = usual_weights(self.config.loss, pair)
        weights = {name: getattr(self.config, name) for name in ("ce_weight", "kd_weight")}
        shown += [f"{name} {value:g}" for name, value in weights.items() if value != usual.get(name, value)]
        shown += [f"{name} {_readable(value)}" for name, value in self.of_recipe if name not in weights]
        return " · ".join(shown) or ("every sample" if name == "full" else "defaults")


def _readable(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value["name"])
    if isinstance(value, list):
        return ", ".join(map(_readable, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_stored(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default
