"""A method to compare with: its sampler, the keys of the recipe that it overrides, and what of it is searched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_serializer, model_validator

from kdas.parts.fields import KeysOf
from kdas.parts.known import SAMPLERS
from kdas.parts.reading import refused
from kdas.parts.registry import lower_keys, parameters_of
from kdas.parts.terms import MAX_WEIGHT
from kdas.recipe.config import LossPart, SamplerPart
from kdas.recipe.optimizer import OptimizerConfig, changed_optimizer
from kdas.recipe.presets import usual_optimizer, usual_weights
from kdas.recipe.strict import MAX_BATCH, MAX_EPOCHS, Strict
from kdas.recipe.teacher import TeacherBlock, TeacherConfig
from sweeps.file.choices import parts_written_out
from sweeps.space.ranges import Range
from sweeps.space.space import names_of


def lower_keys_of(given: Any) -> Any:
    """A mapping with its keys in lower case; anything else as it is."""
    return lower_keys(given) if isinstance(given, dict) else given


def _without_parameters(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of a method as given. Raises: PydanticCustomError: if a parameter of its sampler is among them."""
    sampler = given["sampler"]
    name = sampler.get("name") if isinstance(sampler, Mapping) else sampler
    if name in SAMPLERS.names():
        for key in (each for each in given if str(each).lower() in SAMPLERS[name].schema.model_fields):
            raise refused(f"is a parameter of {name}. Write sampler: {{name: {name}, {key}: ...}}.", str(key))
    return given


SearchBlock = Annotated[
    dict[str, Range],
    BeforeValidator(lower_keys_of),
    BeforeValidator(parts_written_out),
    KeysOf(lambda: parameters_of(SAMPLERS)),
]


class Method(Strict):
    """A method to compare with. A sampler alone, by its name or with its parameters, overrides nothing."""

    sampler: SamplerPart = Field(description="Sampler, with its parameters.")
    # Data, student, budget and machine are not here: they define the comparison itself.
    epochs: float | None = Field(
        None,
        gt=0,
        le=MAX_EPOCHS,
        description="Number of epochs, the length of all schedules; below 1, a fraction of the file's epochs.",
    )
    optimizer: OptimizerConfig | None = Field(None, description="Keys of the optimizer that differ for this method.")
    teacher: TeacherBlock | None = Field(
        None, description="Teacher of this method, in place of the file's; the budget stays that of the file's."
    )
    loss: LossPart | None = Field(None, description="Distillation loss of this method, or a list of losses.")
    ce_weight: float | None = Field(None, ge=0, le=MAX_WEIGHT, description="Weight of the cross-entropy on the label.")
    kd_weight: float | None = Field(None, ge=0, le=MAX_WEIGHT, description="Weight of the distillation term.")
    batch_size: int | None = Field(None, ge=2, le=MAX_BATCH, description="Samples per step.")
    search: SearchBlock | None = Field(
        None,
        description="Parameters of this method to search, with as many configurations and finalists as the file's own"
        " search.",
    )

    @model_validator(mode="before")
    @classmethod
    def _bare_sampler(cls, given: Any) -> Any:
        if isinstance(given, Method):
            return given
        if isinstance(given, Mapping) and "sampler" in given:
            return _without_parameters(given)
        known = [key for key in given if key in cls.model_fields] if isinstance(given, Mapping) else []
        if known:
            name = given.get("name", "full")
            raise refused(f"is not a key of a sampler. Write {{sampler: {name}, {known[0]}: ...}}.", str(known[0]))
        return {"sampler": SAMPLERS.checked(given)}

    @field_validator("epochs")
    @classmethod
    def _whole_or_a_fraction(cls, epochs: float | None) -> float | None:
        if epochs is None or epochs < 1:
            return epochs
        if not epochs.is_integer():
            raise ValueError(f"expected a whole number, or a fraction below 1, got {epochs:g}. Round it")
        return int(epochs)

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        own = {**self._set, **({"search": self.search} if self.search is not None else {})}
        return {"sampler": self.sampler, **own} if own else self.sampler

    @property
    def _set(self) -> dict[str, Any]:
        """The recipe's keys that it sets; of the optimizer, only what is set."""
        names = (name for name in Method.model_fields if name not in ("sampler", "search"))
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.optimizer is not None:
            given["optimizer"] = {
                key: getattr(self.optimizer, key)
                for key in OptimizerConfig.model_fields
                if key in self.optimizer.model_fields_set
            }
        return given

    @property
    def is_bare(self) -> bool:
        """Whether it is a sampler alone."""
        return not self._set and self.search is None

    @property
    def is_plain(self) -> bool:
        """Whether it trains on every sample, with the file's recipe."""
        return self.sampler["name"] == "full" and self.is_bare

    def with_members(self, changed: Callable[[TeacherConfig], TeacherConfig]) -> Method:
        """The same method, with each network of its own teacher changed."""
        if self.teacher is None:
            return self
        teacher = self.teacher.with_members([*map(changed, self.teacher.members)])
        return self.model_copy(update={"teacher": teacher})

    def overrides(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's keys that it sets, with their values; of the optimizer, only what is set.

        Args: recipe: the content of a trial with the file's recipe.
        """
        overrides = self._set
        if self.epochs is not None and self.epochs < 1:
            overrides["epochs"] = max(1, int(self.epochs * recipe["epochs"]))
        return overrides

    def applied(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """The content of a trial with this method. Another loss comes with its authors' weights, unless they are set.

        Args: recipe: the content of a trial with the file's recipe.
        """
        overrides, usual = self.overrides(recipe), {}
        if "loss" in overrides and names_of(overrides["loss"]) != names_of(recipe["loss"]):
            usual = usual_weights(overrides["loss"], {**recipe, **overrides})
        if "optimizer" in overrides:
            usual_of = partial(usual_optimizer, content={**recipe, **overrides})
            overrides["optimizer"] = changed_optimizer(recipe["optimizer"], overrides["optimizer"], usual_of)
        return {**recipe, **usual, **overrides, "sampler": self.sampler}
