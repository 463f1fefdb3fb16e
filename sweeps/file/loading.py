"""Reads a sweep file: merges it with the files that it extends, and checks the result."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from kdas.errors import UserError
from kdas.files.home import expanded
from kdas.files.record import DamagedError
from kdas.parts.known import DATASETS
from kdas.parts.paths import is_address
from kdas.parts.reading import user_error, validated
from kdas.recipe.teacher import TeacherConfig
from sweeps.file.layers import content_of, directory_of, layers_of, shown, source_of
from sweeps.file.spec import SweepSpec
from sweeps.record.paths import SPEC
from sweeps.record.spec_file import read_spec


def load_spec(path: Path, data: str | None = None, settings: Iterable[str] = ()) -> SweepSpec:
    """The sweep that a file describes, merged with the files that it extends.

    Args: data: folder that replaces `dataset.path`; settings: `key=value`, which override the file.
    Raises: UserError: a line for each mistake; it names the file or the setting that contains the key.
    """
    layers = layers_of(path, settings)
    content = content_of(layers)
    if {"dataset", "teacher", "student"} <= content.keys() and not {"baselines", "search"} & content.keys():
        raise UserError(
            f"{shown(path)}: is the file of one trial. Run it with python -m kdas train {path}, or add baselines and"
            " search."
        )
    if data:
        content["dataset"] = _with_data(content, data)
    _keep_scheduler(content, directory_of(path) / SPEC)
    try:
        return _with_absolute_paths(SweepSpec.model_validate(content))
    except ValidationError as error:
        raise user_error(error, SweepSpec, partial(source_of, layers)) from error


def _keep_scheduler(content: dict[str, Any], recorded: Path) -> None:
    """Give a sweep whose file names no scheduler the one that it began with.

    Earlier versions had another default, and a sweep with another scheduler would be another sweep. Cells with
    objectives of their own have a default for each, and are left alone.
    """
    if "scheduler" in content or "objective" in str(content.get("cells")):
        return
    with suppress(FileNotFoundError, DamagedError):  # told when the sweep is compared with it
        if scheduler := read_spec(recorded).get("scheduler"):
            content["scheduler"] = scheduler


def recorded_spec(path: Path) -> SweepSpec:
    """The resolved file that a sweep keeps in its directory."""
    return validated(SweepSpec, read_spec(path), source=str(path))


def _with_data(content: Mapping[str, Any], data: str) -> Any:
    if is_address(data):
        raise UserError(f"DATA={data}: expected a folder on this machine. Download it, and give the folder.")
    if expanded(data).is_file():
        raise UserError(f"DATA={data}: is a file. Unpack it if it is an archive, and give the folder of the data.")
    cells = content.get("cells")
    if isinstance(cells, Mapping) and any(
        "dataset" in (key, *(of if isinstance(of, Mapping) else ())) for key, of in cells.items()
    ):
        raise UserError(f"DATA={data}: the cells have their own datasets. Set the path of each, and omit DATA.")
    dataset = content.get("dataset")
    try:
        name, parameters = DATASETS.named(dataset)
    except PydanticCustomError:
        return dataset  # the schema explains the mistake
    if name in DATASETS.names() and "path" not in DATASETS[name].schema.model_fields:
        raise UserError(f"DATA={data}: the dataset {name} needs no local copy. Omit DATA.")
    return {"name": name, **parameters, "path": data}


def _with_absolute_paths(spec: SweepSpec) -> SweepSpec:
    """The same sweep with absolute paths, since workers may run in a folder other than the user's."""

    def absolute(path: str) -> str:
        return str(expanded(path).absolute())

    def found(member: TeacherConfig) -> TeacherConfig:
        return member.model_copy(update={"checkpoint": absolute(member.checkpoint)}) if member.checkpoint else member

    dataset, teacher = spec.dataset, spec.teacher
    if dataset.get("path"):
        dataset = {**dataset, "path": absolute(dataset["path"])}
    teacher = teacher.with_members([*map(found, teacher.members)])
    methods = {name: method.with_members(found) for name, method in spec.baselines.items()}
    cells = {name: _with_absolute_paths(cell) for name, cell in spec.cells.items()}
    return spec.model_copy(update={"dataset": dataset, "teacher": teacher, "baselines": methods, "cells": cells})
