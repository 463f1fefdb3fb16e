"""The sweep file: what is compared, what is searched, on which seeds, and when a target counts."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from kdas.config import Recipe, SamplerPart, Strict, check_warmup
from kdas.data import DATASETS
from kdas.plugins import with_plugins_found
from kdas.reading import nearest, read_yaml, validated
from kdas.records import UserError, is_searched
from kdas.registry import lower_keys
from kdas.samplers import SAMPLERS
from sweeps.space import Range, check_points, check_space

Seed = Annotated[int, Field(ge=0, description="A seed is a whole number of 0 or more.")]
FILES = Path(__file__).parent / "files"


class TargetConfig(Strict):
    """The accuracy that decides: a number, or a fraction of what plain distillation reaches."""

    accuracy: float | None = Field(None, gt=0, le=1, description="Accuracies are fractions: 0.95, not 95.")
    fraction_of_baseline: float = Field(
        0.99, gt=0, le=1, description="A fraction of the median best validation accuracy of plain distillation."
    )


class AlgorithmConfig(Strict):
    """Which of Optuna's samplers proposes, and its seed."""

    name: Literal["tpe", "random"] = Field("tpe", description="Who proposes configurations.")
    seed: int = Field(0, ge=0, description="The seed of the proposals.")
    startup: int = Field(5, ge=0, description="Random proposals before tpe learns from results.")


class BudgetConfig(Strict):
    """How much is searched."""

    configurations: int = Field(8, ge=1, description="Searched configurations, at least 1; baselines do not count.")


class ResourcesConfig(Strict):
    """What one trial gets, and how many run at once."""

    trials_at_once: int | None = Field(None, ge=1, description="At least 1; by default what the machine holds.")
    gpus_per_trial: float | None = Field(None, ge=0, description="0 or more; by default 1 where the device is CUDA.")


def _seed_list(given: Any) -> Any:
    return list(range(1, given + 1)) if isinstance(given, int) and not isinstance(given, bool) else given


def _target(given: Any) -> Any:
    return {"accuracy": given} if type(given) in (int, float) else given


def _lower_keys(given: Any) -> Any:
    return lower_keys(given) if isinstance(given, dict) else given


class SweepSpec(Recipe):
    """A sweep: a recipe, the baselines it must beat, and the settings to search."""

    sampler: SamplerPart = Field(
        default_factory=lambda: SAMPLERS.checked("kdas"),
        description="The sampler whose parameters are searched, with those that are fixed.",
    )
    baselines: dict[str, SamplerPart] = Field(
        description="Name the methods to compare with; one must use the sampler full."
    )
    search: Annotated[dict[str, Range], BeforeValidator(_lower_keys)] = Field(
        description="Give parameters of the sampler with low and high, or with choices."
    )
    known_points: list[Annotated[dict[str, Any], BeforeValidator(_lower_keys)]] = Field(
        default_factory=list, description="Configurations to try first."
    )
    seeds: Annotated[list[Seed], BeforeValidator(_seed_list)] = Field(
        default_factory=lambda: [1, 2, 3], min_length=1, description="How many seeds, or a list of them."
    )
    target: Annotated[TargetConfig, BeforeValidator(_target)] = Field(default_factory=TargetConfig)
    algorithm: AlgorithmConfig = Field(default_factory=AlgorithmConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    resources: ResourcesConfig = Field(default_factory=ResourcesConfig)

    @model_validator(mode="after")
    def _consistent(self) -> SweepSpec:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds: one stands there twice. Give each seed once")
        for method in filter(is_searched, self.baselines):
            raise ValueError(f"baselines.{method}: such a name is kept for the search. Choose another")
        if not any(part["name"] == "full" for part in self.baselines.values()):
            raise ValueError("baselines: none uses the sampler full. Add plain_kd: full; ratios are taken to it")
        for where, part in {"sampler": self.sampler, **self.baselines}.items():
            check_warmup(where, part.get("warmup_epochs", 0), self.epochs)
        check_space(self.search, self.sampler["name"])
        check_points(self.known_points, self.search, self.sampler["name"])
        return self

    @property
    def plain_baseline(self) -> str:
        """The baseline that ratios and the target refer to: the first that trains on everything."""
        return next(method for method, part in self.baselines.items() if part["name"] == "full")


def spec_path(name: str) -> Path:
    """The file of a shipped sweep, or a path of the user's own.

    Raises: UserError: if there is none; names the nearest.
    """
    if not name.strip():
        raise UserError(f"NAME is not given. Name a sweep: {', '.join(shipped())}, or the path of a .yaml file.")
    as_path = Path(name)
    if as_path.suffix in {".yaml", ".yml"}:
        if not as_path.is_file():
            close = difflib.get_close_matches(as_path.name, [path.name for path in as_path.parent.glob("*.y*ml")], n=1)
            raise UserError(f"{name}: no such sweep file. {nearest(as_path.name, close or shipped())}")
        return as_path
    path = FILES / f"{name}.yaml"
    if not path.is_file():
        raise UserError(f"sweeps/files/{name}.yaml: no such sweep file. {nearest(name, shipped())}")
    return path


def shipped() -> list[str]:
    """Names of the sweep files that come with the project."""
    return sorted(path.stem for path in FILES.glob("*.yaml"))


def load_spec(path: Path, data: str | None = None) -> SweepSpec:
    """The sweep a file describes. Args: data: folder that replaces `dataset.path`.

    Raises: UserError: one line for the first mistake.
    """
    try:
        shown = os.path.relpath(path)
    except ValueError:  # another drive
        shown = str(path)
    content = with_plugins_found(read_yaml(path), path.parent)
    if data:
        content["dataset"] = _with_data(content.get("dataset"), data)
    return _with_absolute_paths(validated(SweepSpec, content, source=shown))


def _with_data(dataset: Any, data: str) -> Any:
    try:
        name, parameters = DATASETS.named(dataset)
    except PydanticCustomError:
        return dataset  # the schema says what is wrong
    if name in DATASETS.names() and "path" not in DATASETS[name].schema.model_fields:
        raise UserError(f"DATA={data}: the dataset {name} takes no local copy. Leave DATA away.")
    return {"name": name, **parameters, "path": data}


def _with_absolute_paths(spec: SweepSpec) -> SweepSpec:
    """Workers may stand in another folder than the user does."""

    def absolute(path: str) -> str:
        return str(Path(path).expanduser().absolute())

    dataset, teacher = spec.dataset, spec.teacher
    if dataset.get("path"):
        dataset = {**dataset, "path": absolute(dataset["path"])}
    if teacher.checkpoint:
        teacher = teacher.model_copy(update={"checkpoint": absolute(teacher.checkpoint)})
    return spec.model_copy(update={"dataset": dataset, "teacher": teacher})
