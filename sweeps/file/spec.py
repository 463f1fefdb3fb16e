"""The sweep file: what is compared and searched, on which seeds, and which target counts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from kdas.parts.known import SAMPLERS
from kdas.parts.reading import Mistake, check_all, mistakes_in, refusal, refused
from kdas.recipe.config import Recipe, SamplerPart, check_warmup
from kdas.recipe.teacher import check_asks_in_time
from kdas.records import is_searched
from sweeps.file.baselines import Method, SearchBlock, lower_keys_of
from sweeps.file.blocks import (
    MOST_SEEDS,
    Algorithm,
    AlgorithmConfig,
    BudgetConfig,
    FaultsConfig,
    KeepStudents,
    ObjectiveConfig,
    ResourcesConfig,
    SchedulerPart,
    Seeds,
    Target,
    TargetConfig,
    TimeToAccuracy,
    Warm,
    WarmStart,
)
from sweeps.file.cells import cell_contents
from sweeps.file.checks import (
    check_algorithm,
    check_combinations,
    check_name_of_search,
    check_scheduler,
    checked_space,
)
from sweeps.file.choices import blocks_filled_in
from sweeps.file.confirm import Confirm, ConfirmConfig
from sweeps.file.first_points import first_points, with_taken
from sweeps.file.methods import Baseline, Methods, Search
from sweeps.space.conditions import space_from
from sweeps.space.space import Space
from sweeps.stopping import STOPPING_RULES


def _named_samplers(given: Any) -> Any:
    """Raises: PydanticCustomError: for a list, whose samplers have no names."""
    if not isinstance(given, list):
        return given
    named = [f"{'plain_kd' if each == 'full' else each}: {each}" for each in given if isinstance(each, str)]
    example = ", ".join(named if named and len(named) == len(given) else ["plain_kd: full", "rs2: random"])
    raise refused(f"expected a name for each sampler, got a list. Write baselines: {{{example}}}.")


class SweepSpec(Recipe):
    """A sweep: a recipe, the baselines it must beat, and the settings to search."""

    extends: str | None = Field(
        None,
        exclude=True,
        description="A sweep file, or the name of a shipped sweep, whose keys this file overrides.",
    )
    sampler: SamplerPart = Field(
        default_factory=lambda: SAMPLERS.checked("kdas"),
        description="Sampler whose parameters are searched, with its fixed parameters.",
    )
    baselines: Annotated[dict[str, Method], BeforeValidator(_named_samplers)] = Field(
        max_length=100, description="Methods to compare with, by name; one must be the sampler full alone."
    )
    search: SearchBlock = Field(description="Parameters to search, each with low and high, or with choices.")
    known_points: list[Annotated[dict[str, Any], BeforeValidator(lower_keys_of)]] = Field(
        default_factory=list,
        max_length=1000,
        description="Configurations to try first, after KDAS with its authors' settings.",
    )
    warm_start: Warm = Field(
        default_factory=WarmStart,
        description="Sweeps whose best configurations are tried next, in place of random proposals.",
    )
    seeds: Seeds = Field(
        default_factory=lambda: [1, 2, 3],
        min_length=1,
        max_length=MOST_SEEDS,
        description="Number of seeds, or a list of seeds.",
    )
    target: Target = Field(default_factory=TargetConfig, description="Accuracy whose time is measured.")
    objective: ObjectiveConfig = Field(default_factory=TimeToAccuracy, description="What the search optimizes.")
    algorithm: Algorithm = Field(default_factory=AlgorithmConfig, description="Algorithm that proposes configurations.")
    scheduler: SchedulerPart = Field(
        default_factory=lambda: STOPPING_RULES.checked("racing"),
        description="Stopping rule for trials of the search; by default racing for the objective tta, else none.",
    )
    confirm: Confirm = Field(
        default_factory=ConfirmConfig,
        description="Confirmation runs of the finalists on fresh seeds; false skips them.",
    )
    budget: BudgetConfig = Field(
        default_factory=BudgetConfig, description="How much is searched, and what may be spent."
    )
    faults: FaultsConfig = Field(
        default_factory=FaultsConfig, description="What happens to trials whose worker is lost."
    )
    keep_students: KeepStudents = Field(
        "finalists",
        description="Whose trained networks are kept: finalists keeps those of the confirmation and of the best"
        " configuration of each search.",
    )
    resources: ResourcesConfig = Field(
        default_factory=ResourcesConfig, description="Resources of a trial, and how many trials run at once."
    )
    cells: dict[str, SweepSpec] = Field(
        default_factory=dict, description="Sweeps side by side: names with the keys they change, or a grid of lists."
    )

    # The spaces of the file's own search, under "", and of methods that are searched, by name.
    _spaces: dict[str, Space] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_its_blocks(cls, content: Any) -> Any:
        return blocks_filled_in(content) if isinstance(content, Mapping) else content

    @classmethod
    def _prepared(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        return super()._prepared(blocks_filled_in(content))

    @model_validator(mode="wrap")
    @classmethod
    def _with_cells(cls, content: Any, handler: ModelWrapValidatorHandler[SweepSpec]) -> SweepSpec:
        """A sweep with cells is its first cell, plus `cells`. Keys that all cells set may be missing above."""
        if not isinstance(content, Mapping) or not content.get("cells"):
            return handler(content)
        cells: dict[str, SweepSpec] = {}
        mistakes: list[Mistake] = []
        for name, (change, whole) in cell_contents(content, list(cls.model_fields)).items():
            try:
                cells[name] = cls.model_validate(whole)
            except ValidationError as error:
                mistakes += _in_cell(name, change, error)
        if mistakes:
            raise refusal(*dict.fromkeys(mistakes))
        return next(iter(cells.values())).model_copy(update={"cells": cells})

    def _checks(self) -> list[Callable[[], None]]:
        return [
            *super()._checks(),
            self._check_baselines,
            lambda: check_warmup("sampler", self.sampler.get("warmup_epochs", 0), self.epochs),
            lambda: check_asks_in_time("sampler", self.sampler, self.teacher),
            self._check_bare_baselines,
            self._check_search,
            self._check_methods,
            lambda: check_scheduler(self.scheduler["name"], self.objective.name),
            self._check_seeds,
            self._check_fresh_seeds,
            self._check_budget,
            self._check_share_of_budget,
        ]

    def _check_bare_baselines(self) -> None:
        """What a trial file would refuse of a sampler alone."""
        bare = {f"baselines.{name}": each.sampler for name, each in self.baselines.items() if each.is_bare}
        check_all(
            *(partial(check_warmup, key, each.get("warmup_epochs", 0), self.epochs) for key, each in bare.items()),
            *(partial(check_asks_in_time, key, each, self.teacher) for key, each in bare.items()),
        )

    def _check_search(self) -> None:
        """Resolve what is searched. Each check builds on those before it."""
        samplers = self.search["sampler"].choices if "sampler" in self.search else None
        if samplers and self.sampler["name"] not in [choice["name"] for choice in samplers]:
            raise ValueError(
                f"sampler: {self.sampler['name']} is not among the choices of search.sampler. Remove it, or"
                " add it there"
            )
        space = space_from(self.search, self.sampler, self.loss)
        check_algorithm(self.algorithm.name, self.objective.name, space)
        self._spaces[""] = with_taken(
            first_points(space, self, self.sampler, self.known_points), "", self.warm_start.taken
        )
        check_combinations(self._content, self.space)

    def _check_methods(self) -> None:
        """Check that a trial file would accept each method, and resolve what is searched of it."""

        def check(name: str, method: Method) -> None:
            space = checked_space(name, method, self._content, self.algorithm.name, self.objective.name)
            if space is not None:
                self._spaces[name] = with_taken(space, name, self.warm_start.taken)

        check_all(*(partial(check, name, method) for name, method in self.baselines.items() if not method.is_bare))

    def _check_share_of_budget(self) -> None:
        share = getattr(self.objective, "share_of_budget", None)
        if share is not None and share < 1 / self.evaluations:
            raise ValueError(
                f"objective.share_of_budget: {share:g} of the budget ends before the first of {self.evaluations}"
                f" evaluations. Use at least {1 / self.evaluations:.3g}, or raise evaluations"
            )

    def _check_baselines(self) -> None:
        for method in filter(is_searched, self.baselines):
            raise ValueError(f"baselines.{method}: names that end in `_search` are reserved. Choose another")
        if not any(each.is_plain for each in self.baselines.values()):
            raise ValueError(
                "baselines: none is the sampler full alone. Add plain_kd: full, which the target refers to"
            )
        proposed = self.search["sampler"].choices or [] if "sampler" in self.search else [self.sampler]
        searched = [name for name, method in self.baselines.items() if method.search is not None]
        check_all(*(partial(check_name_of_search, name, [part["name"] for part in proposed]) for name in searched))
        content = self._content
        resolved = {name: (each.applied(content), each.search) for name, each in self.baselines.items()}
        for (method, one), (other, another) in itertools.combinations(resolved.items(), 2):
            if one == another:
                raise ValueError(f"baselines.{other}: is the same method as {method}. Remove one of them")

    def _check_seeds(self) -> None:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: contains a duplicate. Give each seed once")

    def _check_fresh_seeds(self) -> None:
        fresh = self.confirm.fresh_seeds if self.confirm else []
        if len(set(fresh)) < len(fresh):
            raise ValueError("confirm.seeds: contains a duplicate. Give each seed once")
        for seed in set(fresh) & set(self.seeds):
            if self.confirm and self.confirm.until:
                raise ValueError(f"seeds: {seed} is needed as a fresh seed, {fresh[0]} to {fresh[-1]}. Use other seeds")
            raise ValueError(f"confirm.seeds: {seed} is also in seeds, so it is not fresh. Use other seeds")

    def _check_budget(self) -> None:
        taken = self._num_fixed * len(self.seeds)
        least = taken + self._num_searches * len(self.seeds)
        if self.budget.trials is not None and self.budget.trials < least:
            raise ValueError(
                f"budget.trials: {self.budget.trials} leaves no trials for the search: {self._num_fixed} baselines"
                f" on {len(self.seeds)} seeds take {taken}. Use at least {least}"
            )

    @property
    def _num_searches(self) -> int:
        return 1 + sum(method.search is not None for method in self.baselines.values())

    @property
    def _num_fixed(self) -> int:
        """Number of methods whose settings are fixed."""
        return 1 + len(self.baselines) - self._num_searches

    @property
    def num_configurations(self) -> int:
        """Number of configurations of each search; methods with fixed settings do not count."""
        if self.budget.trials is None:
            return self.budget.configurations
        return (self.budget.trials // len(self.seeds) - self._num_fixed) // self._num_searches

    def budget_for(self, num_configurations: int) -> dict[str, int]:
        """The key of `budget` that asks for this many configurations of each search."""
        if self.budget.trials is None:
            return {"configurations": num_configurations}
        return {"trials": (self._num_fixed + num_configurations * self._num_searches) * len(self.seeds)}

    @property
    def space(self) -> Space:
        """The space of the file's own search, with the points that are tried first, resolved when the file is read."""
        return self._spaces[""]

    @property
    def has_warm_start(self) -> bool:
        return any(each.warm_start.sweeps for each in (self, *self.cells.values()))

    @property
    def _content(self) -> dict[str, Any]:
        """The content of a trial file with what all trials share, and the sampler whose parameters are searched."""
        content = {name: getattr(self, name) for name in Recipe.model_fields}
        return content | {"sampler": self.sampler, "budget_ref_s": self.budget.ref_s_per_trial}

    @property
    def methods(self) -> Methods:
        """What is compared."""
        content = self._content
        searches = [Search("", content, self.space, {})]
        baselines = {}
        for name, method in self.baselines.items():
            if method.search is None:
                baselines[name] = Baseline(method.applied(content), method.overrides(content))
            else:
                searches.append(Search(name, method.applied(content), self._spaces[name], method.overrides(content)))
        plain = next(name for name, method in self.baselines.items() if method.is_plain)
        return Methods(content, baselines, tuple(searches), plain)


def _in_cell(name: str, change: Mapping[str, Any], error: ValidationError) -> list[Mistake]:
    """The mistakes of a cell, each with the path of its key in the file: in the cell, or outside all cells."""
    changed = {key.lower() for key in change}
    return [
        mistake.below(f"cells.{name}") if mistake.key.partition(".")[0].lower() in changed else mistake
        for mistake in mistakes_in(error, SweepSpec)
    ]
