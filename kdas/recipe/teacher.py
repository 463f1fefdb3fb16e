"""The teacher of a trial: one network, several that answer as one, or the student's own past."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from kdas.files.cache import content_id
from kdas.parts.known import LOSSES, SAMPLERS, checked_model
from kdas.parts.paths import LOCAL_FILE
from kdas.parts.reading import nested_error
from kdas.parts.terms import as_terms
from kdas.recipe.optimizer import OptimizerConfig
from kdas.recipe.strict import MAX_BATCH, MAX_EPOCHS, Strict

ModelName = Annotated[str, AfterValidator(checked_model)]
# Seeds are kept in columns of 64 bits.
MAX_SEED = 2**63 - 1
MOST_TEACHERS = 20
# What only a single network can give, of what losses may need.
_OF_ONE_NETWORK = frozenset(
    {"teacher_features", "teacher_maps", "teacher_preact_maps", "class_means", "teacher_batch_norms"}
)


class TeacherConfig(Strict):
    """The teacher: a checkpoint, or a recipe. With a recipe it is trained once and kept."""

    model: ModelName = Field(description="Name of a model, for example resnet20.")
    checkpoint: Annotated[str | None, LOCAL_FILE] = Field(
        None,
        description="File with the weights, or a folder, tar or zip that contains one. No teacher is then trained.",
    )
    epochs: int = Field(40, ge=1, le=MAX_EPOCHS, description="Epochs of the teacher's training.")
    batch_size: int = Field(64, ge=2, le=MAX_BATCH, description="Samples per step.")
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig, description="Optimizer and its schedule.")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="Label smoothing of the teacher's training.")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of the teacher's training.")

    @property
    def members(self) -> tuple[TeacherConfig, ...]:
        """The networks that answer: this one."""
        return (self,)

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each network's answer, all together 1."""
        return (1.0,)

    @property
    def keys(self) -> tuple[str, ...]:
        """The path of each network's block in a file."""
        return ("teacher",)

    def with_members(self, members: Sequence[TeacherConfig]) -> TeacherConfig:
        """The same teacher with other networks, as many as before."""
        (member,) = members
        return member


class TeachersConfig(Strict):
    """Several teachers, whose mean prediction is distilled."""

    of: list[TeacherConfig] = Field(
        min_length=2, max_length=MOST_TEACHERS, description="The teachers, each a block like that of a single teacher."
    )
    weights: list[Annotated[float, Field(gt=0, le=1_000_000)]] | None = Field(
        None, description="Weight of each teacher in the mean, relative to the others; by default equal."
    )

    @model_validator(mode="after")
    def _as_many_weights(self) -> Self:
        if self.weights is not None and len(self.weights) != len(self.of):
            raise ValueError(f"weights: expected {len(self.of)} numbers, one for each teacher, got {len(self.weights)}")
        return self

    @property
    def model(self) -> str:
        """A name for tables: those of the networks."""
        return "+".join(member.model for member in self.of)

    @property
    def members(self) -> tuple[TeacherConfig, ...]:
        """The networks that answer."""
        return tuple(self.of)

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each network's answer, all together 1."""
        weights = self.weights or [1.0] * len(self.of)
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def keys(self) -> tuple[str, ...]:
        """The path of each network's block in a file."""
        return tuple(f"teacher.of.{number}" for number in range(len(self.of)))

    def with_members(self, members: Sequence[TeacherConfig]) -> TeachersConfig:
        """The same teachers with other networks, as many as before."""
        return self.model_copy(update={"of": list(members)})


class SelfTeacher(Strict):
    """No network of its own: the student as it was at the end of the last epoch."""

    model: Literal["self"] = "self"

    @property
    def members(self) -> tuple[TeacherConfig, ...]:
        """The networks that answer beside the student: none."""
        return ()

    @property
    def shares(self) -> tuple[float, ...]:
        """The weight of each network's answer: none."""
        return ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The path of each network's block in a file: none."""
        return ()

    def with_members(self, members: Sequence[TeacherConfig]) -> SelfTeacher:
        """The same."""
        return self


AnyTeacher = TeacherConfig | TeachersConfig | SelfTeacher
_SELF = SelfTeacher().model


def _checked(given: Any) -> AnyTeacher:
    if isinstance(given, AnyTeacher):
        return given
    content = {"model": given} if given == _SELF else given
    block: type[AnyTeacher] = TeacherConfig
    if isinstance(content, Mapping):
        block = TeachersConfig if "of" in content else SelfTeacher if content.get("model") == _SELF else TeacherConfig
    try:
        return block.model_validate(content)
    except ValidationError as error:
        raise nested_error(error, block) from error


TeacherBlock = Annotated[AnyTeacher, BeforeValidator(_checked, json_schema_input_type=AnyTeacher | Literal["self"])]


def check_gives(teacher: AnyTeacher, loss: Any) -> None:
    """Several networks have no common features or maps, and a student's past is asked for its prediction alone.

    Raises: ValueError: names the first loss that needs more.
    """
    if isinstance(teacher, TeacherConfig):
        return
    gives = "teacher: self gives" if isinstance(teacher, SelfTeacher) else "several teachers give"
    for _, part in as_terms(loss):
        need = next((need for need in LOSSES[part["name"]].needs if need in _OF_ONE_NETWORK), None)
        if need is not None:
            raise ValueError(
                f"loss: {part['name']} needs {need}, but {gives} predictions alone. Use one teacher, or another loss"
            )


def check_asks_in_time(where: str, sampler: Mapping[str, Any], teacher: AnyTeacher) -> None:
    """Raises: ValueError: if a sampler chooses by the teacher in the first epoch, and the teacher has no past by then.

    Args: where: the place of the sampler; sampler: as a checked file gives it.
    """
    needs = SAMPLERS[sampler["name"]].needs
    if not isinstance(teacher, SelfTeacher) or not {"teacher_logits", "teacher_passes"} & {*needs}:
        return
    can_wait = "warmup_epochs" in sampler and "teacher_passes" not in needs
    if not can_wait or sampler["warmup_epochs"] < 1:
        remedy = f"Set {where}.warmup_epochs: 1" if can_wait else "Use another sampler, or another teacher"
        raise ValueError(
            f"{where}: {sampler['name']} asks the teacher before there is one: with teacher: self it is the student at"
            f" the end of the first epoch. {remedy}"
        )


def key_of(teacher: AnyTeacher) -> str:
    """A hash of a teacher's block, by which the teachers of several methods are told apart."""
    return content_id(teacher.model_dump(mode="json"))


def members_of(teacher: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The block of each network in a recorded teacher, to read or to change."""
    members: list[dict[str, Any]] = teacher.get("of") or [teacher]
    return members


def name_of(teacher: Mapping[str, Any]) -> str:
    """The name of a recorded teacher, as in `pair`."""
    return "+".join(str(member["model"]) for member in members_of(teacher))
