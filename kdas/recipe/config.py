"""The trial file: everything that decides a trial's curve."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from kdas.errors import UserError, make_command
from kdas.parts.fields import KeysOf
from kdas.parts.known import DATASETS, LOSSES, SAMPLERS, TRANSFORMS
from kdas.parts.paths import LOCAL_FILE, with_paths_found
from kdas.parts.plugins import load_plugins, with_plugins_found
from kdas.parts.reading import check_all, further_mistakes, mistakes_in, refusal, validated
from kdas.parts.registry import parameters_of
from kdas.parts.settings import with_settings
from kdas.parts.terms import MAX_WEIGHT, as_terms, checked_terms
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.optimizer import OptimizerConfig
from kdas.recipe.presets import PresetName, filled_in
from kdas.recipe.release import refuse_release_file
from kdas.recipe.strict import MAX_BATCH, MAX_EPOCHS, MAX_REF_S, Strict
from kdas.recipe.teacher import MAX_SEED, ModelName, TeacherBlock, TeacherConfig, check_asks_in_time, check_gives
from kdas.recipe.transforms import check_order, checked_transforms

__all__ = ["Recipe", "TeacherConfig", "TrialConfig", "load_trial_config"]


def _checked_dataset(given: Any) -> dict[str, Any]:
    return DATASETS.checked(given)


def _checked_sampler(given: Any) -> dict[str, Any]:
    return SAMPLERS.checked(given)


DatasetPart = Annotated[dict[str, Any], BeforeValidator(_checked_dataset), KeysOf(lambda: parameters_of(DATASETS))]
LossPart = Annotated[
    dict[str, Any] | list[dict[str, Any]], BeforeValidator(checked_terms), KeysOf(lambda: parameters_of(LOSSES))
]
TransformParts = Annotated[
    list[dict[str, Any]], BeforeValidator(checked_transforms), KeysOf(lambda: parameters_of(TRANSFORMS))
]
SamplerPart = Annotated[dict[str, Any], BeforeValidator(_checked_sampler), KeysOf(lambda: parameters_of(SAMPLERS))]
Layers = Annotated[list[str] | None, Field(min_length=1)]


def _as_list(given: Any) -> Any:
    return [given] if isinstance(given, str) else given


class Recipe(Strict):
    """A trial without its sampler and seed: what the trials of a sweep have in common."""

    plugins: Annotated[list[str], BeforeValidator(_as_list), AfterValidator(load_plugins)] = Field(
        default_factory=list, description="Modules or .py files that register your own parts."
    )
    preset: PresetName = Field(
        "default", description="Set of defaults: official follows the release's code, paper its README."
    )
    dataset: DatasetPart = Field(description="Name of a dataset, for example digits, with its parameters.")
    validation: float = Field(
        0.1, ge=0, le=0.5, description="Fraction of the training set used for validation; with 0 the test set decides."
    )
    teacher: TeacherBlock = Field(
        description="Teacher: a model with a recipe or a checkpoint, several of them under of, or self, the student as"
        " it was at the end of the last epoch."
    )
    student: ModelName = Field(description="Name of a model, for example resnet8.")
    student_checkpoint: Annotated[str | None, LOCAL_FILE] = Field(
        None,
        min_length=1,
        description="File with the weights that the student starts from, as student: {model, checkpoint} names it too.",
    )
    student_layers: Layers = Field(
        None,
        description="Module paths whose outputs are the student's maps, the first as the stem; by default the model's"
        " own. Only for losses that need maps.",
    )
    teacher_layers: Layers = Field(None, description="The same of the teacher.")
    loss: LossPart = Field(
        default_factory=lambda: LOSSES.checked("kd"),
        description="Name of a distillation loss, or a list of losses with weights.",
    )
    ce_weight: float = Field(
        0.1, ge=0, le=MAX_WEIGHT, description="Weight of the cross-entropy on the label; the paper uses 0.1."
    )
    kd_weight: float = Field(9.0, ge=0, le=MAX_WEIGHT, description="Weight of the distillation term; the paper uses 9.")
    transforms: TransformParts = Field(
        default_factory=list, description="Batch transforms between views and models, in their order; none by default."
    )
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="Optimizer and its schedule.")
    batch_size: int = Field(64, ge=2, le=MAX_BATCH, description="Samples per step; the paper uses 64.")
    accumulate: int = Field(
        1, ge=1, le=MAX_BATCH, description="Number of parts that a batch is split into to save memory."
    )
    epochs: int = Field(
        240, ge=1, le=MAX_EPOCHS, description="Number of epochs, the length of all schedules; the paper uses 240."
    )
    evaluations: int = Field(
        60, ge=1, le=MAX_EPOCHS, description="Number of evaluations, evenly spaced over the cost of plain distillation."
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of a moving average of the student's weights, which is then evaluated; off by default.",
    )
    multi_crop: bool = Field(False, description="Whether to evaluate the mean over ten crops of each image.")
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Precision of the models; losses and weights stay in float32."
    )
    bank: Literal["auto", "live", "float16", "float32"] = Field(
        "auto",
        description="Precision of the teacher bank; auto uses float16 where a bank is possible and at most 32 GiB, live"
        " runs the teacher in every trial instead.",
    )
    channels_last: bool = Field(
        True, description="Whether images are stored channels last; false is slower on most machines."
    )
    compile: bool = Field(False, description="Whether to compile the models with torch.compile.")
    cuda_graphs: bool = Field(
        False,
        description="Whether a GPU records the kernels of a step once an epoch and replays them; needs CUDA, and is"
        " untested on a GPU.",
    )
    threads: int = Field(1, ge=1, le=1024, description="CPU threads; recorded, since they change rounding.")
    data_workers: int = Field(
        2, ge=1, le=1024, description="Processes that read images if a dataset does not fit into memory."
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        "auto", description="Device; auto tries CUDA, then MPS, then the CPU."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_defaults_of_its_parts(cls, content: Any) -> Any:
        if isinstance(content, dict) and content.get("plugins"):
            # Plug-ins' parts have defaults too. The check of the key itself names a plug-in that fails.
            with suppress(ValueError, TypeError, AttributeError):
                load_plugins(_as_list(content["plugins"]))
        return filled_in(content)

    @model_validator(mode="wrap")
    @classmethod
    def _with_all_mistakes(cls, content: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(content)
        except ValidationError as error:
            if not isinstance(content, Mapping):
                raise
            found = mistakes_in(error, cls)
            with suppress(PydanticCustomError):  # which is among those that were found
                content = cls._prepared(content)
            further = further_mistakes(cls, content, found, cls._checks)
            raise refusal(*dict.fromkeys([*found, *further])) from error

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        check_all(*self._checks())
        return self

    @classmethod
    def _prepared(cls, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """The content with the defaults that depend on other keys. Raises: PydanticCustomError: for a wrong block."""
        prepared: Mapping[str, Any] = filled_in(content)
        return prepared

    def _checks(self) -> list[Callable[[], None]]:
        """The checks of keys that depend on each other."""
        return [
            self._check_batch,
            self._check_weights,
            self._check_layers,
            lambda: self.optimizer.check("optimizer"),
            self._check_optimizers_of_teacher,
            self._check_compile,
            self._check_cuda_graphs,
            lambda: check_order(self.transforms),
            self._check_strong_view,
            lambda: check_warmup("optimizer", self.optimizer.warmup_epochs, self.epochs),
            self._check_warmups_of_teacher,
            lambda: check_gives(self.teacher, self.loss),
        ]

    def _check_batch(self) -> None:
        if self.batch_size // self.accumulate < 2:
            raise ValueError(
                f"accumulate: splitting a batch of {self.batch_size} into {self.accumulate} leaves parts of fewer than"
                " two samples, which batch norm needs. Lower it"
            )

    def _check_optimizers_of_teacher(self) -> None:
        for key, member in zip(self.teacher.keys, self.teacher.members, strict=True):
            if member.optimizer.name == "dot":
                raise ValueError(f"{key}.optimizer.name: dot needs a teacher to distill from. Use sgd, adamw or muon")
            member.optimizer.check(f"{key}.optimizer")

    def _check_warmups_of_teacher(self) -> None:
        for key, member in zip(self.teacher.keys, self.teacher.members, strict=True):
            check_warmup(f"{key}.optimizer", member.optimizer.warmup_epochs, member.epochs)

    def _check_compile(self) -> None:
        if self.compile and self.optimizer.name == "dot":
            raise ValueError("compile: compiled models take one backward pass a step, and dot takes two. Remove it")

    def _check_cuda_graphs(self) -> None:
        if self.cuda_graphs and self.precision == "float16":
            raise ValueError(
                "cuda_graphs: the loss scale of float16 waits for the GPU in every step, which cannot be recorded. Set"
                " precision to bfloat16, or remove the key"
            )

    def _check_weights(self) -> None:
        if not self.ce_weight and not self.kd_weight * sum(weight for weight, _ in as_terms(self.loss)):
            raise ValueError("ce_weight: the cross-entropy and the distillation term both have weight 0. Raise one")

    def _check_strong_view(self) -> None:
        strong = [part["name"] for _, part in as_terms(self.loss) if "strong_view" in LOSSES[part["name"]].needs]
        mixing = [part["name"] for part in self.transforms if "partners" in TRANSFORMS[part["name"]].needs]
        if strong and mixing:
            raise ValueError(
                f"transforms: {mixing[0]} mixes images, and the loss {strong[0]} compares two views of one. Remove one"
            )

    def _check_layers(self) -> None:
        given = [key for key in ("student_layers", "teacher_layers") if getattr(self, key) is not None]
        needs = {need for _, part in as_terms(self.loss) for need in LOSSES[part["name"]].needs}
        if given and not any("maps" in need for need in needs):
            raise ValueError(f"{given[0]}: no loss of this file needs maps. Remove the key")


def check_warmup(where: str, warmup_epochs: int, epochs: int) -> None:
    """Raises: ValueError: if a warm-up, named by `where`, leaves no other epoch."""
    if warmup_epochs >= epochs:
        raise ValueError(
            f"{where}.warmup_epochs: expected fewer than the {epochs} epochs, got {warmup_epochs}. Lower it"
        )


class TrialConfig(Recipe):
    """One trial. On CPUs of one kind, equal values here, equal data and equal teacher answers give equal curves."""

    sampler: SamplerPart = Field(
        default_factory=lambda: SAMPLERS.checked("full"),
        description="Name of a sampler, for example kdas, with its parameters.",
    )
    seed: int = Field(1, ge=0, le=MAX_SEED, description="Seed of every random draw.")
    budget_ref_s: float | None = Field(
        None,
        gt=0,
        le=MAX_REF_S,
        description="Reference seconds that the trial may spend; by default the cost of plain distillation.",
    )
    budget_epochs: int | None = Field(
        None,
        ge=1,
        le=MAX_EPOCHS,
        description="Number of epochs of plain distillation whose cost is the budget; by default epochs.",
    )

    def _checks(self) -> list[Callable[[], None]]:
        return [
            *super()._checks(),
            lambda: check_warmup("sampler", self.sampler.get("warmup_epochs", 0), self.epochs),
            lambda: check_asks_in_time("sampler", self.sampler, self.teacher),
        ]


def load_trial_config(path: Path, settings: Iterable[str] = ()) -> TrialConfig:
    """The trial a YAML file describes. Args: settings: `key=value`, on top of the file.

    Raises: UserError: a line for each mistake.
    """
    content = read_yaml(path)
    refuse_release_file(content, str(path))
    if {"search", "baselines"} <= content.keys():
        raise UserError(f"{path}: is a sweep file. Run it with {make_command('sweep', str(path))}.")
    content = with_paths_found(with_plugins_found(content, path.parent), path.parent)
    return validated(TrialConfig, with_settings(content, settings), source=str(path))
