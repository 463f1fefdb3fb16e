"""From a sweep file to trials: which configuration, under which method, with which seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdas.config import Recipe, TrialConfig
from kdas.samplers import SAMPLERS
from kdas.trial import Inputs, config_id
from sweeps.space import SEARCHED_SAMPLER
from sweeps.spec import SEARCH_METHOD, SweepSpec


@dataclass(frozen=True)
class Job:
    """One trial to run: a configuration with one seed, and the method it stands for."""

    method: str
    phase: str
    config: TrialConfig
    config_id: str

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-s{self.config.seed}"

    @property
    def configuration(self) -> str:
        """The sampler's settings in a line: those that differ from its defaults, or were searched."""
        sampler = dict(self.config.sampler)
        name = sampler.pop("name")
        fields = SAMPLERS[name].schema.model_fields
        shown = [
            f"{parameter} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for parameter, value in sampler.items()
            if value != _as_stored(fields[parameter].default)
        ]
        return " · ".join(shown) or ("defaults" if sampler else "every sample")


def _as_stored(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def num_planned_trials(spec: SweepSpec) -> int:
    """Trials of the whole sweep; a proposal that equals a baseline does not add to them."""
    return (len(spec.baselines) + spec.budget.configurations) * len(spec.seeds)


def jobs_of(spec: SweepSpec, inputs: Inputs, method: str, sampler: Mapping[str, Any]) -> list[Job]:
    """A configuration on every seed of the sweep."""
    recipe = {name: getattr(spec, name) for name in Recipe.model_fields}
    jobs = []
    for seed in spec.seeds:
        config = TrialConfig(**recipe, sampler=dict(sampler), seed=seed)
        jobs.append(Job(method, "search", config, config_id(config, inputs)))
    return jobs


def baseline_jobs(spec: SweepSpec, inputs: Inputs) -> list[Job]:
    """Every baseline on every seed, plain distillation first: the target waits for it."""
    methods = sorted(spec.baselines, key=lambda method: method != spec.plain_baseline)
    return [job for method in methods for job in jobs_of(spec, inputs, method, spec.baselines[method])]


def searched_jobs(spec: SweepSpec, inputs: Inputs, parameters: Mapping[str, Any]) -> list[Job]:
    """A searched configuration on every seed; one that equals a baseline carries the baseline's name."""
    jobs = jobs_of(spec, inputs, SEARCH_METHOD, {"name": SEARCHED_SAMPLER, **parameters})
    for method, sampler in spec.baselines.items():
        if jobs[0].config.sampler == sampler:
            return jobs_of(spec, inputs, method, sampler)
    return jobs
