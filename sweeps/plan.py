"""From a sweep file to trials: which configuration, under which method, with which seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kdas.config import TrialConfig
from kdas.presets import usual_weights
from kdas.records import searched_method
from kdas.samplers import SAMPLERS
from sweeps.checks import trial_content
from sweeps.names import CONFIRM, SEARCH
from sweeps.spec import SweepSpec

# The hash of all that decides a configuration's curves.
Identify = Callable[[TrialConfig], str]


@dataclass(frozen=True)
class Job:
    """One trial to run: a configuration with one seed, and the method it stands for."""

    method: str
    phase: str
    config: TrialConfig
    config_id: str
    # Keys of the recipe that the search gave: nothing in a trial's own file tells them from those of all trials.
    searched: tuple[tuple[str, Any], ...] = ()
    # Names of the sampler's own parameters that the search gave: they are shown also where they are the defaults.
    searched_of_sampler: tuple[str, ...] = ()

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-s{self.config.seed}"

    @property
    def configuration(self) -> str:
        """The settings in a line: what was searched, what else differs from the sampler's defaults, unusual weights."""
        sampler = dict(self.config.sampler)
        name = sampler.pop("name")
        fields = SAMPLERS[name].schema.model_fields
        shown = [
            f"{parameter} {_readable(value)}"
            for parameter, value in sampler.items()
            if parameter in self.searched_of_sampler or value != _as_stored(fields[parameter].default)
        ]
        usual = usual_weights(self.config.loss)
        weights = {name: getattr(self.config, name) for name in ("ce_weight", "kd_weight")}
        shown += [f"{name} {value:g}" for name, value in weights.items() if value != usual.get(name, value)]
        shown += [f"{name} {_readable(value)}" for name, value in self.searched if name not in weights]
        return " · ".join(shown) or ("every sample" if name == "full" else "defaults")


def _readable(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value["name"])
    if isinstance(value, list):
        return ", ".join(map(_readable, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _as_stored(default: Any) -> Any:
    return list(default) if isinstance(default, tuple) else default


def recipe_of(spec: SweepSpec) -> TrialConfig:
    """What all trials have in common, as the trial that trains on everything."""
    return TrialConfig(**{**trial_content(spec), "sampler": "full"}, budget_ref_s=spec.budget.ref_s_per_trial)


def num_planned_trials(spec: SweepSpec) -> int:
    """Trials of the whole sweep, confirmation included; a proposal that equals a baseline does not add to them."""
    searched = (len(spec.baselines) + spec.num_configurations) * len(spec.seeds)
    if spec.confirm is None:
        return searched
    finalists = min(spec.confirm.top, spec.num_configurations)
    return searched + (len(spec.baselines) + finalists) * len(spec.confirm.seeds)


def jobs_of(
    spec: SweepSpec,
    identify: Identify,
    method: str,
    content: Mapping[str, Any],
    searched: tuple[tuple[str, Any], ...] = (),
    searched_of_sampler: tuple[str, ...] = (),
) -> list[Job]:
    """A configuration on every seed of the sweep. Args: content: a trial's, without its seed."""
    # Checked and named once: seeds differ in nothing that decides either.
    config = TrialConfig(**content, seed=spec.seeds[0], budget_ref_s=spec.budget.ref_s_per_trial)
    shared_id = identify(config)
    return [
        Job(method, SEARCH, config.model_copy(update={"seed": seed}), shared_id, searched, searched_of_sampler)
        for seed in spec.seeds
    ]


def baseline_jobs(spec: SweepSpec, identify: Identify) -> list[Job]:
    """Every baseline on every seed, plain distillation first: the target waits for it."""
    methods = sorted(spec.baselines, key=lambda method: method != spec.plain_baseline)
    recipe = trial_content(spec)
    return [
        job
        for method in methods
        for job in jobs_of(spec, identify, method, {**recipe, "sampler": spec.baselines[method]})
    ]


def searched_jobs(
    spec: SweepSpec, identify: Identify, parameters: Mapping[str, Any], baselines: Sequence[Job] | None = None
) -> list[Job]:
    """A searched configuration on every seed; one that equals a baseline carries the baseline's name.

    Args: baselines: what `baseline_jobs` returns, for those who ask for many configurations.
    """
    space = spec.space
    content = space.applied(trial_content(spec), parameters)
    of_the_recipe = tuple((name, value) for name, value in parameters.items() if space[name].path[0] != "sampler")
    of_the_sampler = tuple(str(space[name].path[-1]) for name in parameters if space[name].path[0] == "sampler")
    method = searched_method(content["sampler"]["name"])
    jobs = jobs_of(spec, identify, method, content, of_the_recipe, of_the_sampler)
    known = baseline_jobs(spec, identify) if baselines is None else baselines
    equal = next((job.method for job in known if job.config_id == jobs[0].config_id), None)
    return jobs if equal is None else [job for job in known if job.method == equal]


def confirm_jobs(finalists: Sequence[Job], baselines: Sequence[Job], seeds: Sequence[int]) -> list[Job]:
    """Finalists and baselines, each once, on fresh seeds: seed by seed, so that pairs are complete early."""
    configurations = {job.config_id: job for job in [*baselines, *finalists]}
    return [
        replace(job, phase=CONFIRM, config=job.config.model_copy(update={"seed": seed}))
        for seed in seeds
        for job in configurations.values()
    ]
