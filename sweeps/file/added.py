"""Configurations that a user adds to a sweep that has run, without editing its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from kdas.errors import UserError
from kdas.parts.reading import explain
from kdas.parts.settings import single_settings
from kdas.parts.yaml_file import parse_yaml
from sweeps.file.spec import SweepSpec
from sweeps.record.control import read_requests
from sweeps.record.directory import SweepDirectory


def with_recorded(spec: SweepSpec, directory: SweepDirectory) -> SweepSpec:
    """The sweep with what was added at earlier starts. Raises: UserError: if that does not fit the file any more."""
    asked = read_requests(directory)
    return _extended(spec, asked.added, asked.configurations or 0, str(directory.control_file))


def with_added(
    spec: SweepSpec, texts: Iterable[str], directory: SweepDirectory
) -> tuple[SweepSpec, list[Mapping[str, Any]]]:
    """The sweep with more configurations, each of which it searches besides those that it was to search.

    Args: texts: one configuration each, `key=value` for every key of `search`.
    Returns: the sweep, and the configurations that are new to it.
    Raises: UserError: for a configuration outside the space, or if the sweep has not run.
    """
    new: list[Mapping[str, Any]] = []
    for text in texts:
        if spec.cells:
            raise UserError(f"ADD {text}: this sweep has cells. Add the configuration to known_points in its file.")
        if not directory.spec_file.exists():
            raise UserError(
                f"ADD {text}: {directory.name} has not run yet. Add the configuration to known_points in its file."
            )
        point = _point(text)
        try:
            resolved = spec.space.point(point, "ADD")
        except ValueError as error:
            raise UserError(f"{error}.") from error
        if resolved not in spec.space.first:  # otherwise the same command was given before
            spec = _extended(spec, [point], spec.num_configurations + 1, f"ADD {text}")
            new.append(point)
    return spec, new


def _extended(spec: SweepSpec, points: Iterable[Mapping[str, Any]], least: int, source: str) -> SweepSpec:
    """The sweep with more known points, and at least as many configurations. Args: source: named in messages."""
    missing = [point for point in points if point not in spec.known_points]
    if not missing and spec.num_configurations >= least:
        return spec
    content = spec.model_dump()
    content["known_points"] = [*spec.known_points, *missing]
    if spec.num_configurations < least:
        content["budget"] |= spec.budget_for(least)
    try:
        return SweepSpec.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error, SweepSpec)}") from error


def _point(text: str) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for each in single_settings([text]):
        key, _, value = (part.strip() for part in each.partition("="))
        if not key or not value:
            raise UserError(
                f"ADD {text}: expected key=value for every key of search. For example:"
                ' ADD="start_rate=0.5 end_rate=0.2".'
            )
        if key.lower() in point:
            raise UserError(f"ADD {text}: {key} is given twice. Give each key once.")
        try:
            point[key.lower()] = parse_yaml(value)
        except ValueError as error:
            raise UserError(
                f"ADD {text}: the value of {key} is not valid YAML. Write a number, a word, [a, b] or {{a: b}}."
            ) from error
    return point
