"""From a sweep file to trials: which configuration, under which method, with which seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdas.config import Recipe, TrialConfig
from kdas.presets import usual_weights
from kdas.records import searched_method
from kdas.samplers import SAMPLERS
from sweeps.space import RECIPE_PARAMETERS
from sweeps.spec import SweepSpec

SEARCH, CONFIRM = "search", "confirm"
# The hash of all that decides a configuration's curves.
Identify = Callable[[TrialConfig], str]


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
        """The settings in a line: those that differ from the sampler's defaults, and weights that are not usual."""
        sampler = dict(self.config.sampler)
        name = sampler.pop("name")
        fields = SAMPLERS[name].schema.model_fields
        shown = [
            f"{parameter} {', '.join(map(str, value)) if isinstance(value, list) else value}"
            for parameter, value in sampler.items()
            if value != _as_stored(fields[parameter].default)
        ]
        usual = usual_weights(self.config.loss)
        weights = {name: getattr(self.config, name) for name in RECIPE_PARAMETERS}
        shown += [f"{name} {value:g}" for name, value in weights.items() if value != usual.get(name, value)]
        return " · ".join(shown) or ("every sample" if name == "full" else "defaults")


def _as_stored(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def num_planned_trials(spec: SweepSpec) -> int:
    """Trials of the whole sweep; a proposal that equals a baseline does not add to them."""
    return (len(spec.baselines) + spec.budget.configurations) * len(spec.seeds)


def jobs_of(spec: SweepSpec, identify: Identify, method: str, sampler: Mapping[str, Any]) -> list[Job]:
    """A configuration on every seed of the sweep."""
    recipe = {name: getattr(spec, name) for name in Recipe.model_fields}
    # Checked and named once: seeds differ in nothing that decides either.
    config = TrialConfig(**recipe, sampler=dict(sampler), seed=spec.seeds[0])
    shared_id = identify(config)
    return [Job(method, SEARCH, config.model_copy(update={"seed": seed}), shared_id) for seed in spec.seeds]


def baseline_jobs(spec: SweepSpec, identify: Identify) -> list[Job]:
    """Every baseline on every seed, plain distillation first: the target waits for it."""
    methods = sorted(spec.baselines, key=lambda method: method != spec.plain_baseline)
    return [job for method in methods for job in jobs_of(spec, identify, method, spec.baselines[method])]


def searched_jobs(
    spec: SweepSpec, identify: Identify, parameters: Mapping[str, Any], baselines: Sequence[Job]
) -> list[Job]:
    """A searched configuration on every seed; one that equals one of the baselines' jobs carries the baseline's name."""
    of_the_recipe = {name: value for name, value in parameters.items() if name in RECIPE_PARAMETERS}
    of_the_sampler = {name: value for name, value in parameters.items() if name not in RECIPE_PARAMETERS}
    method, sampler = searched_method(spec.sampler["name"]), {**spec.sampler, **of_the_sampler}
    jobs = jobs_of(spec.model_copy(update=of_the_recipe), identify, method, sampler)
    equal = next((job.method for job in baselines if job.config_id == jobs[0].config_id), None)
    return jobs if equal is None else [job for job in baselines if job.method == equal]


def confirm_jobs(finalists: Sequence[Job], baselines: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Finalists and baselines, each once, on fresh seeds: seed by seed, so that pairs are complete early."""
    configurations = {job.config_id: job for job in [*baselines, *finalists]}
    return [
        replace(job, phase=CONFIRM, config=job.config.model_copy(update={"seed": seed}))
        for seed in seeds
        for job in configurations.values()
    ]
