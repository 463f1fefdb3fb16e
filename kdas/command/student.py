"""`python -m kdas evaluate` and `predict`: use a kept student."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from kdas.compute import device as devices
from kdas.compute.evaluate import Quality, predictions, quality
from kdas.compute.precision import Precision
from kdas.data import DATASETS, Dataset, ImageSplits, Split, load_splits
from kdas.errors import UserError
from kdas.files.cache import content_id
from kdas.models import Model
from kdas.parts.plugins import require_plugins
from kdas.parts.reading import validated
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import TeacherConfig, key_of
from kdas.students.about import ABOUT, About, read_about
from kdas.students.predict import predict as predicted
from kdas.students.student import load_student
from kdas.teacher import obtain as teachers
from kdas.training.trial import find_dataset

# Names may hold what Rich would take for markup.
console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False, highlight=False)

Folder = Annotated[Path, typer.Argument(metavar="STUDENT", help="Folder of a kept student, with student.json.")]
Last = Annotated[bool, typer.Option("--last", help="The weights after the last step instead of the best ones.")]
OwnCode = Annotated[bool, typer.Option("--own-code", help="Allow a student whose network is defined by your own code.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]


def evaluate(
    student: Folder,
    data: Annotated[Path | None, typer.Option(help="Where the data is, if not where it was.")] = None,
    teacher: Annotated[Path | None, typer.Option(help="Checkpoint of the teacher, for the agreement.")] = None,
    last: Last = False,
    device: Device = "auto",
    own_code: OwnCode = False,
) -> None:
    """Measure a kept student on its data, and compare with what was recorded."""
    about = read_about(student)
    network = load_student(student, last=last, own_code=own_code)
    config = _recipe(student, about, data, device)
    resolved = devices.resolve(config.device)
    dataset = find_dataset(config)
    splits = load_splits(dataset, config.validation, resolved, config.data_workers)
    if (splits.num_classes, splits.image_size) != (about.num_classes, about.image_size):
        raise UserError(
            f"{dataset.origin}: expected {about.num_classes} classes of {about.image_size} pixels, got"
            f" {splits.num_classes} of {splits.image_size}. Give --data with the set that {student} was trained on."
        )
    # As in the trial: the number of threads changes rounding.
    devices.repeatable(config.threads)
    model = network.model.to(resolved)
    teaching = _teacher(student, about, config, dataset, splits, resolved, teacher)
    table = Table("split", "images", "accuracy", "recorded", "top-5", "nll", "calibration error", "agrees with teacher")
    table.box, table.padding = None, (0, 2, 0, 0)
    is_same_data = content_id(dataset.identity) == content_id(about.data["identity"])
    recorded = about.last if last else about.best
    measured: dict[str, Quality] = {}
    parts = {"validation": splits.validation, "test": splits.test} if config.validation else {"test": splits.test}
    for name, split in parts.items():
        measured[name] = _measured(model, split, splits, config, resolved, teaching)
        table.add_row(name, *_cells(measured[name], recorded[_COLUMNS[name]] if is_same_data else None))
    console.print(table)
    if not is_same_data:
        console.print("The data is not what the student was trained on, so the recorded accuracy is not compared.")
        return
    off, num_images = max(
        (abs(each.accuracy - recorded[_COLUMNS[name]]), each.num_images) for name, each in measured.items()
    )
    if off > max(_MOST_OF_ROUNDING, _MOST_IMAGES / num_images):
        console.print(
            f"Differs from what was recorded by {100 * off:.1f} points, more than rounding explains: weights, data or"
            f" {ABOUT} have changed since.",
            soft_wrap=True,
        )
        raise typer.Exit(1)
    if off:
        console.print(
            f"Differs from what was recorded with {about.provenance.get('torch', '?')} on {recorded['device']}: another"
            " device, kind of processor or version rounds otherwise.",
            soft_wrap=True,
        )


# Another device or version classifies a few images otherwise, whose two likeliest classes are about as likely: less
# than this fraction, or of a small split this many.
_MOST_OF_ROUNDING, _MOST_IMAGES = 0.01, 2.5
_COLUMNS = {"validation": "val_accuracy", "test": "test_accuracy"}


def _recipe(folder: Path, about: About, data: Path | None, device: str) -> TrialConfig:
    content = {**about.recipe, "device": device}
    if data is not None:
        name = content["dataset"]["name"]
        require_plugins(content.get("plugins", []), f"{folder}: plugins:")
        if "path" not in DATASETS[name].schema.model_fields:
            raise UserError(f"--data: {name} takes no path. Leave --data out.")
        content["dataset"] = {**content["dataset"], "path": str(data.absolute())}
    return validated(TrialConfig, content, source=str(folder / ABOUT))


def _measured(
    model: Model, split: Split, splits: ImageSplits, config: TrialConfig, device: str, teacher: Model | None
) -> Quality:
    how = (split, splits, config.multi_crop, Precision(config.precision, device))
    return quality(model, *how, None if teacher is None else predictions(teacher, *how))


def _cells(measured: Quality, recorded: float | None) -> list[str]:
    agreement = "" if measured.agreement is None else f"{measured.agreement:.4f}"
    return [
        f"{measured.num_images:,}",
        repr(measured.accuracy),
        "" if recorded is None else repr(recorded),
        f"{measured.top5:.4f}",
        f"{measured.nll:.4f}",
        f"{measured.calibration_error:.4f}",
        agreement,
    ]


def _teacher(
    folder: Path,
    about: About,
    config: TrialConfig,
    dataset: Dataset,
    splits: ImageSplits,
    device: str,
    given: Path | None,
) -> Model | None:
    """The teacher: the given one, or the one that the student had, wherever it is kept. None if it is not found."""
    members = config.teacher.members
    if given is not None and len(members) != 1:
        had = f"{len(members)} teachers" if members else "its own past as teacher"
        raise UserError(f"--teacher: the student had {had}, not one network. Leave --teacher out.")
    if not members:
        return None
    usual = [teachers.teacher_path(member, dataset, config.validation) for member in members]
    of_sweep = [paths for path in folder.resolve().parents[1:4] for paths in _copies(path, members)]
    for paths in [[given]] if given is not None else [usual, *of_sweep]:
        if given is None and not all(path.exists() for path in paths):
            continue
        from_there = [
            member.model_copy(update={"checkpoint": str(path)}) for member, path in zip(members, paths, strict=True)
        ]
        try:
            found = teachers.obtain(config.teacher.with_members(from_there), dataset, config.validation, splits, device)
        except UserError as error:
            if given is None:
                raise
            reason = str(error).removeprefix("teacher.checkpoint: ")
            raise UserError(
                f"--teacher: {reason.partition('. Name ')[0].rstrip('.')}. Give the teacher that the student had."
            ) from error
        if found.weights_id == about.teacher["weights"]:
            return found.model
        if given is not None:
            console.print(f"{given} is not the teacher that the student had.")
            return found.model
    console.print(
        f"The student's teacher was not found at {', '.join(map(str, usual))}, nor in the student's sweep. Give"
        " --teacher to measure how often the student agrees with it.",
        soft_wrap=True,
    )
    return None


def _copies(folder: Path, members: Sequence[TeacherConfig]) -> list[list[Path]]:
    """Where a sweep in this folder may keep the weights of these teachers: of its only one, or of one of several."""
    of_several = [folder / "teachers" / f"{key_of(member)}.pth" for member in members]
    return [[folder / "teacher.pth"], of_several] if len(members) == 1 else [of_several]


def predict(
    student: Folder,
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    top: Annotated[int, typer.Option(min=1, help="How many classes to print for each image.")] = 5,
    last: Last = False,
    device: Device = "auto",
    own_code: OwnCode = False,
) -> None:
    """Print the likeliest classes of images."""
    network = load_student(student, last=last, device=devices.resolve(device), own_code=own_code)
    for path in images:
        classes = ", ".join(f"{name} {probability:.1%}" for name, probability in predicted(network, path, top))
        console.print(f"{path}: {classes}", soft_wrap=True)
