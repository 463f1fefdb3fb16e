"""The pins that `make test-floor` installs."""

from __future__ import annotations

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.places import ROOT


def test_pins_of_the_floor_are_the_lowest_versions_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lowest = dict(map(name_and_version, [*project["dependencies"], *project["optional-dependencies"]["dev"]]))
    lines = (ROOT / "requirements-floor.txt").read_text().splitlines()
    pins = dict(name_and_version(line) for line in lines if line and not line.startswith("#"))
    assert {"torch", "torchvision", "numpy", "pytest"} <= set(pins)
    assert {name: lowest.get(name, pin) for name, pin in pins.items()} == pins


def name_and_version(line: str) -> tuple[str, Version]:
    requirement = Requirement(line)
    [bound] = requirement.specifier
    return canonicalize_name(requirement.name), Version(bound.version)
