"""Whether kept weights have been trained on images that a trial validates on."""

from __future__ import annotations

from kdas.data import Dataset
from kdas.errors import UserError
from kdas.files.cache import content_id
from kdas.files.home import expanded
from kdas.recipe.config import Recipe
from kdas.students.about import read_about


def seen_by_kept(recipe: Recipe, dataset: Dataset) -> list[str]:
    """A sentence for each of the recipe's checkpoints that is a kept student trained on this trial's validation images.

    Only the folder of a student says how it was trained; of other files nothing is known.
    """
    of_teacher = zip(recipe.teacher.keys, recipe.teacher.members, strict=True)
    return [
        f"{key}: {checkpoint} was trained with validation: {before:g}, so some of its training images are in the"
        f" validation part here, and validation accuracy is too good. Set validation: {before:g}."
        for key, checkpoint in (
            *((f"{key}.checkpoint", member.checkpoint) for key, member in of_teacher),
            ("student.checkpoint", recipe.student_checkpoint),
        )
        # The part of a greater fraction contains that of a smaller one.
        if checkpoint and (before := _fraction_held_out(checkpoint, dataset)) is not None and before < recipe.validation
    ]


def _fraction_held_out(checkpoint: str, dataset: Dataset) -> float | None:
    """The `validation` of a kept student of this data set; None for anything else."""
    try:
        about = read_about(expanded(checkpoint))
    except UserError:
        return None
    if content_id(about.data.get("identity")) != content_id(dataset.identity):
        return None
    return float(about.recipe.get("validation", 0))
