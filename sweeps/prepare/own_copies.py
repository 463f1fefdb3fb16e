"""A sweep's own copies of the weights that it was given. It resumes with them after their files were moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from kdas.files import checkpoint
from kdas.files.home import expanded
from kdas.parts.known import SAMPLERS
from kdas.recipe.config import Recipe
from kdas.recipe.teacher import TeacherConfig
from kdas.students.start import reference_weights, start_weights
from kdas.teacher.obtain import Teacher
from kdas.training.trial import Inputs
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory

RecipeT = TypeVar("RecipeT", bound=Recipe)


def with_own_copies(recipe: RecipeT, directory: SweepDirectory) -> RecipeT:
    """The same recipe, with the sweep's own copies in place of given weights that are gone.

    A file that is where it was is read, so that other weights in it are noticed.
    """
    if not directory.has_begun:
        return recipe  # copies may be those of a start that was given up
    own = partial(_own_copy, directory=directory)
    changed: dict[str, Any] = {"teacher": recipe.teacher.with_members([*map(own, recipe.teacher.members)])}
    if isinstance(recipe, SweepSpec):
        changed["baselines"] = {name: each.with_members(own) for name, each in recipe.baselines.items()}
    if _is_gone(recipe.student_checkpoint) and checkpoint.is_intact(directory.start_file):
        changed["student_checkpoint"] = str(directory.start_file.absolute())
    recipe = recipe.model_copy(update=changed)
    content = recipe.model_dump(mode="json")
    found = with_references(content, partial(_own_reference, directory=directory))
    # Checked again, since what is searched is resolved from choices that may name some.
    return recipe if found == content else type(recipe).model_validate(found)


def with_references(content: Any, changed: Callable[[str], Any]) -> Any:
    """The content of a file, with each place of a sampler's reference changed, in whatever block the sampler is."""
    if isinstance(content, list):
        return [with_references(each, changed) for each in content]
    if not isinstance(content, dict):
        return content
    found = {key: with_references(value, changed) for key, value in content.items()}
    if isinstance(found.get("reference"), str) and found.get("name") in SAMPLERS.names():
        found["reference"] = changed(found["reference"])
    return found


def references_of(spec: SweepSpec) -> list[str]:
    """The references of the samplers of a sweep, in the order of its file."""
    found: list[str] = []
    content = spec.model_dump(mode="json", include={"sampler", "baselines", "search"})
    with_references(content, found.append)
    return found


def _own_reference(given: str, directory: SweepDirectory) -> str:
    copy = directory.reference_file_of(given)
    return str(copy.absolute()) if _is_gone(given) and checkpoint.is_intact(copy) else given


def _own_copy(teacher: TeacherConfig, directory: SweepDirectory) -> TeacherConfig:
    copy = directory.teacher_file_of(teacher.model_dump(mode="json"))
    if not _is_gone(teacher.checkpoint) or not checkpoint.is_intact(copy):
        return teacher
    return teacher.model_copy(update={"checkpoint": str(copy.absolute())})


def _is_gone(given: str | None) -> bool:
    # Not the method of a path, which raises for a name that no file can have.
    return given is not None and not os.path.exists(expanded(given))  # noqa: PTH110


def keep_own_copies(
    recipes: Sequence[Recipe],
    inputs: Inputs,
    directory: SweepDirectory,
    references: Sequence[str] = (),
    *,
    replaces: bool,
) -> None:
    """Keep the weights of the teachers, those that students start from, and those of samplers' references.

    Args: recipes: the sweep's, then one for each other teacher; references: as files name them; replaces: also
        those of which there is an intact copy, which may be of another start.
    """
    networks: list[tuple[TeacherConfig, Teacher]] = []
    for recipe in recipes:
        members, teacher = recipe.teacher.members, inputs.of(recipe).teacher
        networks += zip(members, (teacher,) if len(members) == 1 else teacher.members, strict=True)
    if replaces and len(networks) > 1:
        directory.teacher_file.unlink(missing_ok=True)  # of a start with a single teacher, which was given up
    weights = {}
    for config, teacher in networks:
        several = directory.teacher_file_of(config.model_dump(mode="json"))
        weights[several if len(networks) > 1 else directory.teacher_file] = teacher.model.state_dict()
    recipe = recipes[0]
    if recipe.student_checkpoint:
        weights[directory.start_file] = start_weights(recipe, inputs.splits.num_classes)
    for given in references:
        weights[directory.reference_file_of(given)] = reference_weights(
            recipe.student, given, inputs.splits.num_classes
        )[0]
    for file, each in weights.items():
        if replaces or not checkpoint.is_intact(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            # Not a copy of the file that was given, which may be an archive, or a folder.
            checkpoint.save(file, {"model": {name: tensor.cpu().contiguous() for name, tensor in each.items()}})
