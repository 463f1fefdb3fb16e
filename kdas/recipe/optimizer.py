"""The key `optimizer` of a trial file: an optimizer by its name, and the schedule of its learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from kdas.recipe.strict import MAX_EPOCHS, MAX_LEARNING_RATE, Strict
from kdas.schedules import STEP_MILESTONES

# The keys that not all optimizers have.
OWN_KEYS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "nesterov"),
    "adamw": ("betas",),
    "muon": ("momentum", "nesterov", "betas", "adamw_learning_rate"),
    "dot": ("momentum", "delta"),
}
_OF_SOME = frozenset(key for keys in OWN_KEYS.values() for key in keys)
# The keys that a single schedule has, and that schedule.
OF_SCHEDULE: Mapping[str, str] = {"decay_share": "trapezoid", "milestones": "step"}
# Where customary values differ from those of SGD: those of torch's AdamW, and of Muon's authors.
_USUAL: Mapping[str, Mapping[str, Any]] = {
    "adamw": {"learning_rate": 1e-3, "weight_decay": 0.01},
    "muon": {"learning_rate": 0.02, "weight_decay": 0.01, "momentum": 0.95, "nesterov": True, "betas": [0.9, 0.95]},
}

Beta = Annotated[float, Field(ge=0, lt=1)]
Milestone = Annotated[float, Field(gt=0, lt=1)]


class OptimizerConfig(Strict):
    """The optimizer and its schedule; the defaults are those of the official release."""

    name: Literal["sgd", "adamw", "muon", "dot"] = Field(
        "sgd", description="Name of the optimizer: sgd, adamw, muon or dot."
    )
    learning_rate: float = Field(
        0.05,
        gt=0,
        le=MAX_LEARNING_RATE,
        description="Learning rate; the paper uses 0.05. By default 0.001 for adamw and 0.02 for muon.",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum, of all but adamw; by default 0.95 for muon.")
    weight_decay: float = Field(
        5e-4, ge=0, le=MAX_LEARNING_RATE, description="Weight decay; by default 0.01 for adamw and muon."
    )
    schedule: Literal["cosine", "step", "linear", "trapezoid"] = Field(
        "cosine", description="Schedule of the learning rate."
    )
    final_learning_rate: float = Field(
        1e-5, ge=0, le=MAX_LEARNING_RATE, description="Learning rate at the end, of all schedules but step."
    )
    warmup_epochs: int = Field(0, ge=0, le=MAX_EPOCHS, description="Epochs of linear warm-up before the schedule.")
    clip_norm: float | None = Field(None, gt=0, description="Largest gradient norm of a step; no clipping by default.")
    nesterov: bool = Field(False, description="Whether sgd and muon look ahead (Nesterov); by default true for muon.")
    betas: list[Beta] = Field(
        [0.9, 0.999],
        min_length=2,
        max_length=2,
        description="Decays of the two averages of adamw, in [0, 1); by default [0.9, 0.95] for muon's AdamW.",
    )
    adamw_learning_rate: float = Field(
        3e-4,
        gt=0,
        le=MAX_LEARNING_RATE,
        description="Learning rate of the AdamW that muon leaves biases, norms, first and last layer to.",
    )
    delta: float = Field(
        0.075,
        ge=0,
        lt=1,
        description="What dot adds to the momentum of the distillation gradient, and takes from the task gradient's.",
    )
    decay_share: float = Field(
        0.2, gt=0, le=1, description="Part of the epochs after warm-up in which schedule trapezoid decays."
    )
    milestones: list[Milestone] = Field(
        list(STEP_MILESTONES),
        max_length=100,
        description="Fractions of the epochs after each of which schedule step divides the learning rate by ten.",
    )

    @model_validator(mode="before")
    @classmethod
    def _with_usual_values(cls, content: Any) -> Any:
        if not isinstance(content, Mapping) or not isinstance(content.get("name"), str):
            return content
        return {**_USUAL.get(content["name"], {}), **content}

    @model_serializer(mode="wrap")
    def _without_idle_keys(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what says nothing. So a recipe that was possible before there were these keys keeps its ids."""
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key not in self._idle}

    @property
    def _idle(self) -> set[str]:
        idle = self._foreign - self.model_fields_set
        if self.milestones == list(STEP_MILESTONES):
            idle |= {"milestones"}
        if self.name == "sgd":
            idle |= {"name"} if self.nesterov else {"name", "nesterov"}
        return idle

    @property
    def _foreign(self) -> set[str]:
        """The keys of other optimizers and of other schedules."""
        of_schedules = {key for key, schedule in OF_SCHEDULE.items() if schedule != self.schedule}
        return {*_OF_SOME.difference(OWN_KEYS[self.name]), *of_schedules}

    def check(self, where: str) -> None:
        """Raises: ValueError: for keys that do not go together. Args: where: path of the block."""
        for key in type(self).model_fields:
            if key in self._foreign & self.model_fields_set:
                raise ValueError(f"{where}.{key}: {self._owner_of(key)}")
        if self.milestones != sorted(set(self.milestones)):
            raise ValueError(f"{where}.milestones: expected rising fractions, got {self.milestones}. Sort them")
        if self.nesterov and not self.momentum:
            raise ValueError(f"{where}.nesterov: needs a momentum, got 0. Raise {where}.momentum, or remove nesterov")
        if self.name == "dot":
            self._check_dot(where)

    def _owner_of(self, key: str) -> str:
        if key in OF_SCHEDULE:
            return f"schedule {self.schedule} has no such key. Remove it, or use {OF_SCHEDULE[key]}"
        having = " or ".join(name for name, keys in OWN_KEYS.items() if key in keys)
        return f"{self.name} has no such key. Remove it, or use {having}"

    def _check_dot(self, where: str) -> None:
        if not 0 <= self.momentum - self.delta <= self.momentum + self.delta < 1:
            raise ValueError(
                f"{where}.delta: expected momentum - delta and momentum + delta in [0, 1), got {self.momentum} and"
                f" {self.delta}. Lower delta"
            )
        if self.clip_norm is not None:
            raise ValueError(f"{where}.clip_norm: dot has two gradients and clips neither. Remove this key")


# Keys whose values do not depend on the optimizer.
_SHARED = ("schedule", "final_learning_rate", "warmup_epochs", "clip_norm", *OF_SCHEDULE)


def changed_optimizer(
    block: OptimizerConfig | Mapping[str, Any], keys: Mapping[str, Any], usual: Callable[[str], Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of a block in which some keys differ. Another optimizer starts from default values of its own.

    Args: usual: returns those of the file's preset for an optimizer of this name.
    """
    kept = block.model_dump() if isinstance(block, OptimizerConfig) else dict(block)
    before = kept.get("name", "sgd")
    if keys.get("name", before) != before:
        kept = {**usual(keys["name"]), **{key: kept[key] for key in _SHARED if key in kept}}
    return {**kept, **keys}
