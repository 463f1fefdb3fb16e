"""The trial file: everything that decides a trial's curve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from kdas.data import DATASETS
from kdas.losses import LOSSES
from kdas.models.plugin import check_name
from kdas.reading import read_yaml, validated
from kdas.samplers import SAMPLERS

ModelName = Annotated[str, AfterValidator(check_name)]
DatasetPart = Annotated[dict[str, Any], BeforeValidator(DATASETS.checked)]
LossPart = Annotated[dict[str, Any], BeforeValidator(LOSSES.checked)]
SamplerPart = Annotated[dict[str, Any], BeforeValidator(SAMPLERS.checked)]


class Strict(BaseModel):
    """A block of a file: unknown keys are refused, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class OptimizerConfig(Strict):
    """SGD and its schedule; the defaults are those of the official release."""

    learning_rate: float = Field(0.05, gt=0, description="The learning rate is over 0; the paper uses 0.05.")
    momentum: float = Field(0.9, ge=0, lt=1, description="The momentum is in [0, 1).")
    weight_decay: float = Field(5e-4, ge=0, description="The weight decay is 0 or more.")
    schedule: Literal["cosine", "step"] = Field("cosine", description="How the learning rate falls.")
    final_learning_rate: float = Field(1e-5, ge=0, description="Where the cosine ends.")


class TeacherConfig(Strict):
    """The teacher: a checkpoint, or a recipe by which it is trained once and kept."""

    model: ModelName = Field(description="Name a model, for example resnet20.")
    checkpoint: str | None = Field(None, description="A .pth file with the weights; nothing is trained then.")
    epochs: int = Field(40, ge=1, description="Epochs of the teacher's own training.")
    batch_size: int = Field(64, ge=2, description="Samples a step, at least 2.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    seed: int = Field(0, ge=0, description="The seed of the teacher's own training.")


class Recipe(Strict):
    """All of a trial but the sampler and the seed: what the trials of a sweep have in common."""

    dataset: DatasetPart = Field(description="Name a dataset, for example digits.")
    validation: float = Field(
        0.1, ge=0, le=0.5, description="The fraction of the training set that decides; 0 lets the test set decide."
    )
    teacher: TeacherConfig = Field(description="Give a model and a recipe or a checkpoint.")
    student: ModelName = Field(description="Name a model, for example resnet8.")
    loss: LossPart = Field(default_factory=lambda: LOSSES.checked("kd"), description="Name a loss, for example kd.")
    ce_weight: float = Field(0.1, ge=0, description="Weight of the cross-entropy on the label; the paper uses 0.1.")
    kd_weight: float = Field(9.0, ge=0, description="Weight of the distillation term; the paper uses 9.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    batch_size: int = Field(64, ge=2, description="Samples a step, at least 2; the paper uses 64.")
    epochs: int = Field(240, ge=1, description="The length of all schedules; the paper uses 240.")
    evaluations: int = Field(
        60, ge=1, description="Evaluations at equal cost, over the cost of plain distillation for all epochs."
    )
    threads: int = Field(1, ge=1, description="CPU threads; part of the record, since they change the last bits.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="auto takes CUDA, then MPS, then CPU.")


class TrialConfig(Recipe):
    """One trial. Two trials with equal values here, equal data and equal teacher weights have the same curve."""

    sampler: SamplerPart = Field(
        default_factory=lambda: SAMPLERS.checked("full"), description="Name a sampler, for example kdas."
    )
    seed: int = Field(1, ge=0, description="The seed of every random draw.")


def load_trial_config(path: Path) -> TrialConfig:
    """The trial a YAML file describes. Raises: UserError: one line for its first mistake."""
    return validated(TrialConfig, read_yaml(path), source=str(path))
