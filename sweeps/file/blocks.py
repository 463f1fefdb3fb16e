"""The blocks of a sweep file: target, objective, search algorithm, budget, faults, resources."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial, reduce
from operator import or_
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from kdas.errors import brief, nearest
from kdas.parts.reading import nested_error, refused
from kdas.recipe.strict import MAX_REF_S, Strict
from kdas.recipe.teacher import MAX_SEED
from sweeps.space.forms import short_form
from sweeps.stopping import STOPPING_RULES

Seed = Annotated[int, Field(ge=0, le=MAX_SEED, description="Seed, a whole number of at least 0.")]
# Far above all that makes sense: they catch slips, such as a seed given as a number of seeds.
MOST_SEEDS, MOST_CONFIGURATIONS, MOST_HOURS = 1000, 1_000_000, 1_000_000


def _by_name(kind: str, *classes: type[Strict]) -> BeforeValidator:
    """A block whose `name` decides which other keys it has. The name alone means their defaults."""
    known = {cls.model_fields["name"].default: cls for cls in classes}

    def block(given: Any) -> Any:
        content = {"name": given} if isinstance(given, str) else given
        if isinstance(content, classes):
            return content
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            raise refused(f"expected a name or a mapping with a name, got {brief(given)}. Known: {', '.join(known)}.")
        name = content["name"]
        if name not in known:
            raise refused(f"no {kind} is called {name!r}. {nearest(name, known)}", "name")
        try:
            return known[name].model_validate(content)
        except ValidationError as error:
            raise nested_error(error, known[name]) from error

    return BeforeValidator(block, json_schema_input_type=reduce(or_, classes, Literal[tuple(known)]))


def seeds_from(first: int, given: Any) -> Any:
    """A number of seeds as a list of them; a list as it is."""
    if not isinstance(given, int) or isinstance(given, bool):
        return given
    if given < 1:
        raise refused(f"expected at least 1 seed, got {given}. Give a number of seeds, or a list of seeds.")
    if given > MOST_SEEDS:
        meant = f"Did you mean seeds: [{given}]?" if given <= MAX_SEED else "Give fewer."
        raise refused(f"expected at most {MOST_SEEDS} seeds, got {given}. {meant}")
    return list(range(first, first + given))


def seeds_counted_from(first: int) -> BeforeValidator:
    """Reads a number of seeds, or a list of them."""
    written_out = partial(seeds_from, first)
    return short_form(written_out, "a whole number or a list", list, tuple, schema=int | list[Seed])


Seeds = Annotated[list[Seed], seeds_counted_from(1)]


class TargetConfig(Strict):
    """The target accuracy: a number, or a fraction of the accuracy of plain distillation."""

    accuracy: float | None = Field(None, gt=0, le=1, description="Target accuracy, a fraction: 0.95, not 95.")
    fraction_of_baseline: float = Field(
        0.99,
        gt=0,
        le=1,
        description="Target as a fraction of the median best validation accuracy of plain distillation.",
    )


def _target(given: Any) -> Any:
    return {"accuracy": given} if type(given) in (int, float) else given


Target = Annotated[
    TargetConfig,
    short_form(_target, "a number or a mapping", Mapping, TargetConfig, schema=TargetConfig | float),
]


class TimeToAccuracy(Strict):
    """Minimize the cost at which the target is reached; a miss counts as the full budget."""

    name: Literal["tta"] = "tta"


class Accuracy(Strict):
    """Maximize the best accuracy within the budget."""

    name: Literal["accuracy"] = "accuracy"


class AccuracyAtCost(Strict):
    """Maximize the best accuracy within a given cost."""

    name: Literal["accuracy_at_cost"] = "accuracy_at_cost"
    cost_ref_s: float | None = Field(None, gt=0, le=MAX_REF_S, description="Cost in reference seconds.")
    share_of_budget: float | None = Field(
        None, gt=0, le=1, description="Cost as a fraction of the cost of plain distillation."
    )

    @model_validator(mode="after")
    def _one_cost(self) -> AccuracyAtCost:
        if (self.cost_ref_s is None) == (self.share_of_budget is None):
            raise ValueError("cost_ref_s: expected either cost_ref_s or share_of_budget. Give exactly one")
        return self


class Pareto(Strict):
    """Maximize accuracy and minimize cost: find the settings that no other beats in both."""

    name: Literal["pareto"] = "pareto"


ObjectiveConfig = Annotated[
    TimeToAccuracy | Accuracy | AccuracyAtCost | Pareto,
    _by_name("objective", TimeToAccuracy, Accuracy, AccuracyAtCost, Pareto),
]


class WarmPoint(Strict):
    """A configuration of another sweep, as a point of this one."""

    sweep: str = Field(description="The sweep that it is taken from, as `sweeps` names it.")
    config_id: str = Field(description="Its id in that sweep.")
    search: str = Field("", description="The searched method that tries it; empty for the file's own search.")
    point: dict[str, Any] = Field(description="Its settings here.")


class WarmStart(Strict):
    """Sweeps whose best configurations are tried first."""

    sweeps: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        max_length=100,
        description="Names of sweeps in RUNS_DIR, or paths of sweep folders.",
    )
    taken: list[WarmPoint] = Field(
        default_factory=list, description="What is taken from them; recorded when the sweep begins."
    )

    @model_validator(mode="after")
    def _each_once(self) -> WarmStart:
        if len(set(self.sweeps)) < len(self.sweeps):
            raise ValueError("contains a duplicate. Name each sweep once")
        return self


def _warm_start(given: Any) -> Any:
    sweeps = [given] if isinstance(given, str) else given
    return {"sweeps": sweeps} if isinstance(sweeps, list) else given


Warm = Annotated[
    WarmStart,
    short_form(_warm_start, "a list of sweeps", Mapping, WarmStart, schema=str | list[str] | WarmStart),
]


AlgorithmName = Literal["tpe", "random", "grid", "brute_force", "gp", "cmaes", "nsga2"]


class AlgorithmConfig(Strict):
    """Optuna's sampler that proposes configurations, and its seed."""

    name: AlgorithmName = Field(
        "tpe",
        description="Sampler that proposes configurations. tpe learns from results, random does not; grid and"
        " brute_force try all.",
    )
    # Optuna's samplers take no more than 32 bits.
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of the proposals.")
    startup: int = Field(
        5,
        ge=0,
        le=MOST_CONFIGURATIONS,
        description="Number of random proposals before tpe, gp and cmaes start to learn.",
    )


def _named(given: Any) -> Any:
    return {"name": given} if isinstance(given, str) else given


Algorithm = Annotated[
    AlgorithmConfig,
    short_form(_named, "a name or a mapping", Mapping, AlgorithmConfig, schema=AlgorithmConfig | AlgorithmName),
]


SchedulerPart = Annotated[dict[str, Any], BeforeValidator(STOPPING_RULES.checked)]


class StopWhen(Strict):
    """When the search has found enough and stops."""

    first_reached: bool = Field(False, description="Stop once a setting reaches the target on every seed.")
    tta_ref_s_below: float | None = Field(
        None,
        gt=0,
        le=MAX_REF_S,
        description="Stop once a setting has a mean time to the target below this, in reference seconds.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> StopWhen:
        if not self.first_reached and self.tta_ref_s_below is None:
            raise ValueError("is empty. Give first_reached: true, or tta_ref_s_below")
        return self


def _stop_when(given: Any) -> Any:
    return {"first_reached": True} if given == "first_reached" else given


Stop = Annotated[
    StopWhen | None,
    short_form(
        _stop_when,
        "first_reached or a mapping",
        Mapping,
        StopWhen,
        NoneType,
        schema=StopWhen | Literal["first_reached"] | None,
    ),
]


class BudgetConfig(Strict):
    """How much is searched, and what may be spent."""

    configurations: int = Field(
        8, ge=1, le=MOST_CONFIGURATIONS, description="Number of configurations to search; baselines do not count."
    )
    trials: int | None = Field(
        None,
        ge=1,
        le=MOST_CONFIGURATIONS,
        description="Number of trials before the confirmation, baselines included; replaces `configurations`.",
    )
    wall_hours: float | None = Field(None, gt=0, le=MOST_HOURS, description="Wall hours over all starts.")
    device_hours: float | None = Field(
        None,
        gt=0,
        le=MOST_HOURS,
        description="Hours of whole GPUs (of whole machines if there is no GPU) over all starts.",
    )
    ref_s_per_trial: float | None = Field(
        None,
        gt=0,
        le=MAX_REF_S,
        description="Reference seconds that a trial may spend; by default the cost of plain distillation.",
    )
    stop_when: Stop = Field(None, description="When to stop searching: first_reached, or tta_ref_s_below.")
    when_spent: Literal["finish", "checkpoint"] = Field(
        "finish",
        description="What happens to running trials once the hours are used up: finish runs them to their end,"
        " checkpoint pauses them.",
    )


# Whose trained networks a sweep keeps.
KeepStudents = Literal["none", "finalists", "all"]


class FaultsConfig(Strict):
    """What happens to trials whose worker is lost: killed, out of memory, or gone with its machine.

    A trial that raises an error is not retried before the next start.
    """

    retries: int = Field(
        2,
        ge=0,
        le=1000,
        description="How often in a row a trial resumes after losing its worker, without a new evaluation in between.",
    )


# More do not fit on any GPU; it catches slips.
MOST_PER_GPU = 100


def _per_gpu(given: Any) -> Any:
    is_number = isinstance(given, int) and not isinstance(given, bool) and 1 <= given <= MOST_PER_GPU
    if given is None or given == "auto" or is_number:
        return given
    raise refused(
        f"expected auto or a whole number from 1 to {MOST_PER_GPU}, got {brief(given)}. Use auto to measure it."
    )


TrialsPerGpu = Annotated[
    int | Literal["auto"] | None,
    BeforeValidator(
        _per_gpu, json_schema_input_type=Annotated[int, Field(ge=1, le=MOST_PER_GPU)] | Literal["auto"] | None
    ),
]


class ResourcesConfig(Strict):
    """Resources of one trial, and how many trials run at once."""

    trials_at_once: int | None = Field(
        None, ge=1, le=MOST_CONFIGURATIONS, description="Number of trials at once; by default as many as fit."
    )
    gpus_per_trial: float | None = Field(
        None, ge=0, le=1024, description="GPUs per trial, may be a fraction; by default 1 on CUDA."
    )
    trials_per_gpu: TrialsPerGpu = Field(
        None,
        description="Number of trials that share a GPU, in place of `gpus_per_trial`; auto measures which number"
        " finishes most. No effect without CUDA.",
    )

    @model_validator(mode="after")
    def _one_share(self) -> ResourcesConfig:
        if self.gpus_per_trial is not None and self.trials_per_gpu is not None:
            raise refused(
                f"got {self.trials_per_gpu} together with gpus_per_trial: {self.gpus_per_trial:g}. Give only one.",
                "trials_per_gpu",
            )
        return self
