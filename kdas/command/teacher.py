"""What users are told about a teacher, and about weights that students start from."""

from __future__ import annotations

from rich.console import Console

from kdas.recipe.config import Recipe
from kdas.recipe.teacher import SelfTeacher
from kdas.students.seen import seen_by_kept
from kdas.training.trial import Inputs

# Fewer images are classified before anybody wonders.
_WORTH_SAYING = 5000


def tell_quality(recipe: Recipe, inputs: Inputs, console: Console) -> None:
    """Say how good the teacher is, and which weights students start from. Warn if the teacher is hardly better than a
    guess, and of weights that have seen the validation images.
    """
    if not isinstance(recipe.teacher, SelfTeacher):
        _tell_accuracies(recipe, inputs, console)
    if recipe.student_checkpoint:
        console.print(
            f"Students start from the weights in {recipe.student_checkpoint}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    for sentence in seen_by_kept(recipe, inputs.dataset):
        console.print(f"Warning: {sentence}", highlight=False, markup=False, soft_wrap=True)


def _tell_accuracies(recipe: Recipe, inputs: Inputs, console: Console) -> None:
    split = "validation" if recipe.validation else "test"
    num_images = len(inputs.splits.validation)

    def announce() -> None:
        if num_images > _WORTH_SAYING:
            console.print(f"Evaluating the teacher on {num_images:,} {split} images.", highlight=False)

    quality = inputs.teacher_quality(recipe, announce)
    of_members = inputs.member_qualities(recipe).items()
    said = [
        *(
            (f"Teacher {name}", each.accuracy, member.choice)
            for (name, each), member in zip(of_members, inputs.teacher.members, strict=True)
        ),
        ("Their mean" if of_members else f"Teacher {recipe.teacher.model}", quality.accuracy, inputs.teacher.choice),
    ]
    for who, accuracy, choice in said:
        of_file = f" (taken from its checkpoint: {choice})" if choice else ""
        line = f"{who}: {accuracy:.1%} {split} accuracy{of_file}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if quality.is_near_chance:
        console.print(
            f"Warning: that is near chance ({quality.chance:.1%}), so students learn little from it. Check its weights,"
            " the order of its classes, and the mean and std of its images.",
            highlight=False,
            soft_wrap=True,
        )
