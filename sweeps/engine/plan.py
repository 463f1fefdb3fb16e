"""From a sweep file to trials: which configuration, under which method, with which seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kdas.files.cache import content_id
from kdas.recipe.config import TrialConfig
from kdas.records import searched_method
from sweeps.file.checks import trial_content
from sweeps.file.spec import SweepSpec
from sweeps.record.job import Job
from sweeps.record.paths import CONFIRM, SEARCH

# The hash of all that decides a configuration's curves.
Identify = Callable[[TrialConfig], str]


def identity(config: TrialConfig) -> str:
    """A configuration's name where neither data nor teacher are loaded: the replayed sweep has one of each."""
    return content_id(config.model_dump(mode="json", exclude={"seed"}))


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
