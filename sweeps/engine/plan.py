"""The trials of a sweep: which configuration, under which method, with which seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from kdas.files.cache import content_id
from kdas.recipe.config import TrialConfig
from sweeps.engine.sequential import looks_between
from sweeps.file.confirm import ConfirmConfig
from sweeps.file.methods import Methods, Search
from sweeps.record.job import Job
from sweeps.record.paths import CONFIRM, SEARCH

# Returns a hash of everything that decides a configuration's curves.
Identify = Callable[[TrialConfig], str]


def identity(config: TrialConfig) -> str:
    """A configuration's id where neither data nor teacher is loaded, as in a replay, which has one of each."""
    return content_id(config.model_dump(mode="json", exclude={"seed"}))


@dataclass(frozen=True)
class Plan:
    """The jobs of a sweep: its baselines, what its searches propose, and the confirmation of the best of each search.

    `num_configurations`: how many are searched, for each search; `confirm`: None for no confirmation.
    """

    methods: Methods
    seeds: Sequence[int]
    num_configurations: int
    confirm: ConfirmConfig | None
    identify: Identify = identity

    @cached_property
    def baselines(self) -> list[Job]:
        """Every baseline on every seed, plain distillation first, since the target waits for it."""
        methods = sorted(self.methods.baselines, key=lambda method: method != self.methods.plain)
        return [
            job
            for method in methods
            for job in self._on_every_seed(
                method,
                self.methods.baselines[method].content,
                tuple(_shown(self.methods.baselines[method].overrides)),
                (),
            )
        ]

    @property
    def plain(self) -> list[Job]:
        """Plain distillation on every seed."""
        return [job for job in self.baselines if job.method == self.methods.plain]

    def searched(self, point: Mapping[str, Any], search: Search | None = None) -> list[Job]:
        """The jobs of a searched configuration, one for each seed; the baseline's jobs if it equals a baseline.

        Args: search: the search that proposed it; by default the file's own.
        """
        search = search or self.methods.searches[0]
        content = search.space.applied(search.content, point)
        paths = {name: search.space[name].path for name in point}
        of_recipe = {name: value for name, value in point.items() if paths[name][0] != "sampler"}
        of_sampler = tuple(str(paths[name][-1]) for name in point if paths[name][0] == "sampler")
        shown = {**dict(_shown(search.overrides)), **of_recipe}
        method = search.method(content["sampler"]["name"])
        jobs = self._on_every_seed(method, content, tuple(shown.items()), of_sampler)
        equal = next((job.method for job in self.baselines if job.config_id == jobs[0].config_id), None)
        return jobs if equal is None else [job for job in self.baselines if job.method == equal]

    def confirmation(self, finalists: Sequence[Job], num_seeds: int) -> list[Job]:
        """Finalists and baselines, each once, on fresh seeds: seed by seed, so that pairs are complete early.

        Args: finalists: one job of each finalist; num_seeds: how many of the fresh seeds.
        """
        if self.confirm is None:
            return []
        configurations = {job.config_id: job for job in [*self.baselines, *finalists]}
        return [
            replace(job, phase=CONFIRM, config=job.config.model_copy(update={"seed": seed}))
            for seed in self.confirm.fresh_seeds[:num_seeds]
            for job in configurations.values()
        ]

    @property
    def num_searched(self) -> int:
        """Number of configurations of all searches together."""
        return self.num_configurations * len(self.methods.searches)

    @property
    def num_finalists(self) -> int:
        """Number of searched configurations to confirm, provided that as many are searched as planned."""
        if self.confirm is None:
            return 0
        return min(self.confirm.top, self.num_configurations) * len(self.methods.searches)

    @cached_property
    def looks(self) -> tuple[int, ...]:
        """The numbers of fresh seeds after which the confirmation may end; none if there is no confirmation."""
        if self.confirm is None:
            return ()
        num_seeds = len(self.confirm.fresh_seeds)
        return looks_between(num_seeds if self.confirm.until is None else self.confirm.least, num_seeds)

    @property
    def num_fresh_seeds(self) -> int:
        """Number of fresh seeds that the confirmation needs at least."""
        return min(self.looks, default=0)

    @property
    def num_trials(self) -> int:
        """Number of trials of the sweep, the least of the confirmation included.

        A proposal that equals a baseline adds none.
        """
        num_baselines = len(self.methods.baselines)
        searched = (num_baselines + self.num_searched) * len(self.seeds)
        return searched + (num_baselines + self.num_finalists) * self.num_fresh_seeds

    def _on_every_seed(
        self,
        method: str,
        content: Mapping[str, Any],
        shown: tuple[tuple[str, Any], ...],
        searched_of_sampler: tuple[str, ...],
    ) -> list[Job]:
        """A configuration on every seed of the sweep. Args: content: that of a trial file without the seed."""
        # A method with another number of epochs has the budget of all others, and is evaluated at the same costs.
        budget_epochs = self.methods.content["epochs"]
        own_budget = {} if content["epochs"] == budget_epochs else {"budget_epochs": budget_epochs}
        # Checked and hashed once, since neither depends on the seed.
        config = TrialConfig(**{**content, **own_budget, "seed": self.seeds[0]})
        config_id = self.identify(config)
        return [
            Job(method, SEARCH, config.model_copy(update={"seed": seed}), config_id, shown, searched_of_sampler)
            for seed in self.seeds
        ]


def _shown(overrides: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Overridden keys as a search would name them: `epochs`, `optimizer.learning_rate`."""
    for key, value in overrides.items():
        if key == "optimizer":
            yield from ((f"{key}.{name}", each) for name, each in value.items())
        else:
            yield key, value.model if key == "teacher" else value
