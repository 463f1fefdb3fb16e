"""The trial file: everything that decides a trial's curve."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kdas.data import DATASETS
from kdas.losses import LOSSES
from kdas.losses.terms import as_terms, checked_terms
from kdas.models import check_name
from kdas.plugins import load_plugins, with_plugins_found
from kdas.presets import PresetName, filled_in
from kdas.reading import read_yaml, refuse_booleans_for_numbers, validated
from kdas.samplers import SAMPLERS

ModelName = Annotated[str, AfterValidator(check_name)]
DatasetPart = Annotated[dict[str, Any], BeforeValidator(DATASETS.checked)]
LossPart = Annotated[dict[str, Any] | list[dict[str, Any]], BeforeValidator(checked_terms)]
SamplerPart = Annotated[dict[str, Any], BeforeValidator(SAMPLERS.checked)]


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class Strict(BaseModel):
    """A block of a file: unknown keys are refused, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _booleans_are_no_numbers = model_validator(mode="before")(refuse_booleans_for_numbers)


class OptimizerConfig(Strict):
    """SGD and its schedule; the defaults are those of the official release."""

    learning_rate: float = Field(0.05, gt=0, description="The learning rate is over 0; the paper uses 0.05.")
    momentum: float = Field(0.9, ge=0, lt=1, description="The momentum is in [0, 1).")
    weight_decay: float = Field(5e-4, ge=0, description="The weight decay is 0 or more.")
    schedule: Literal["cosine", "step"] = Field("cosine", description="How the learning rate falls.")
    final_learning_rate: float = Field(1e-5, ge=0, description="Where the cosine ends.")
    warmup_epochs: int = Field(0, ge=0, description="Epochs over which the learning rate rises, before the schedule.")
    clip_norm: float | None = Field(None, gt=0, description="The largest norm of a step's gradient; none by default.")


class TeacherConfig(Strict):
    """The teacher: a checkpoint, or a recipe by which it is trained once and kept."""

    model: ModelName = Field(description="Name a model, for example resnet20.")
    checkpoint: str | None = Field(
        None, description="A .pth file with the weights, or a tar that holds it; nothing is trained then."
    )
    epochs: int = Field(40, ge=1, description="Epochs of the teacher's own training.")
    batch_size: int = Field(64, ge=2, description="Samples a step, at least 2.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="SGD and its schedule.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Taken from the label and spread over all classes.")
    seed: int = Field(0, ge=0, description="The seed of the teacher's own training.")


class Recipe(Strict):
    """All of a trial but the sampler and the seed: what the trials of a sweep have in common."""

    plugins: Annotated[list[str], BeforeValidator(_as_list), AfterValidator(load_plugins)] = Field(
        default_factory=list, description="Modules, or .py files, that register parts of your own."
    )
    preset: PresetName = Field("default", description="Which defaults hold: official is the release, paper its README.")
    dataset: DatasetPart = Field(description="Name a dataset, for example digits.")
    validation: float = Field(
        0.1, ge=0, le=0.5, description="The fraction of the training set that decides; 0 lets the test set decide."
    )
    teacher: TeacherConfig = Field(description="Give a model and a recipe or a checkpoint.")
    student: ModelName = Field(description="Name a model, for example resnet8.")
    loss: LossPart = Field(
        default_factory=lambda: LOSSES.checked("kd"), description="Name a loss, or list several with their weights."
    )
    ce_weight: float = Field(0.1, ge=0, description="Weight of the cross-entropy on the label; the paper uses 0.1.")
    kd_weight: float = Field(9.0, ge=0, description="Weight of the distillation term; the paper uses 9.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="SGD and its schedule.")
    batch_size: int = Field(64, ge=2, description="Samples a step, at least 2; the paper uses 64.")
    accumulate: int = Field(1, ge=1, description="Parts that a batch is split into when memory is short.")
    epochs: int = Field(240, ge=1, description="The length of all schedules; the paper uses 240.")
    evaluations: int = Field(
        60, ge=1, description="Evaluations at equal cost, over the cost of plain distillation for all epochs."
    )
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="Evaluate a moving average of the student's weights; none by default."
    )
    multi_crop: bool = Field(False, description="Evaluate on the mean over ten crops of each image.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="What students and teachers compute in; losses and weights stay in float32."
    )
    bank: Literal["auto", "live", "float16", "float32"] = Field(
        "auto",
        description="What the teacher's answers are kept in, once for all trials: auto is float16 where that is exact,"
        " live has the teacher run in every trial.",
    )
    channels_last: bool = Field(True, description="The memory layout of images; false is slower on most machines.")
    compile: bool = Field(False, description="Whether torch.compile translates the models first.")
    threads: int = Field(1, ge=1, description="CPU threads; part of the record, since they change the last bits.")
    data_workers: int = Field(2, ge=1, description="Processes that read images where a set does not fit into memory.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes CUDA, then MPS, then CPU.")

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_its_parts(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("plugins"):
            # Their parts have defaults too. A plugin that fails is named where the key itself is checked.
            with suppress(ValueError, TypeError, AttributeError):
                load_plugins(_as_list(content["plugins"]))
        return filled_in(content)

    @model_validator(mode="after")
    def _consistent_recipe(self) -> Self:
        if self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"accumulate: {self.accumulate} parts of a batch of {self.batch_size} hold less than two samples, and"
                " batch norm needs two. Lower it"
            )
        if not self.ce_weight and not self.kd_weight * sum(weight for weight, _ in as_terms(self.loss)):
            raise ValueError("ce_weight: 0, and the distillation term weighs 0 too. Nothing would be learnt; raise one")
        for where, warmup, epochs in (
            ("optimizer", self.optimizer.warmup_epochs, self.epochs),
            ("teacher.optimizer", self.teacher.optimizer.warmup_epochs, self.teacher.epochs),
        ):
            check_warmup(where, warmup, epochs)
        return self


def check_warmup(where: str, warmup_epochs: int, epochs: int) -> None:
    """Raises: ValueError: if a warm-up, named by `where`, would fill the whole schedule."""
    if warmup_epochs >= epochs:
        raise ValueError(f"{where}.warmup_epochs: {warmup_epochs} of {epochs} epochs leave none to train in. Lower it")


class TrialConfig(Recipe):
    """One trial. On CPUs of one kind equal values here, data and answers of the teacher give the same curve."""

    sampler: SamplerPart = Field(
        default_factory=lambda: SAMPLERS.checked("full"), description="Name a sampler, for example kdas."
    )
    seed: int = Field(1, ge=0, description="The seed of every random draw.")
    budget_ref_s: float | None = Field(
        None, gt=0, description="Reference seconds that it may spend, over 0; by default what plain distillation costs."
    )

    @model_validator(mode="after")
    def _samples_at_all(self) -> Self:
        check_warmup("sampler", self.sampler.get("warmup_epochs", 0), self.epochs)
        return self


def load_trial_config(path: Path) -> TrialConfig:
    """The trial a YAML file describes. Raises: UserError: one line for its first mistake."""
    return validated(TrialConfig, with_plugins_found(read_yaml(path), path.parent), source=str(path))
