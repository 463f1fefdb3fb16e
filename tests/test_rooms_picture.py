"""docs/pictures/rooms.svg shows the rooms and imports of the source as it is now."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from html import unescape
from itertools import pairwise
from re import findall
from types import ModuleType

import pytest

from tests.places import ROOT

SCRIPT = ROOT / "docs" / "pictures" / "rooms.py"
PACKAGES = ("kdas", "sweeps", "analysis")
DRAW = "Draw it again: .venv/bin/python docs/pictures/rooms.py"


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("rooms_picture", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # The script's dataclasses look up their module in sys.modules while they are defined.
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module")
def source(script: ModuleType) -> list:
    return script.rooms_of_source()


def drawn(kind: str) -> set[str]:
    svg = SCRIPT.with_suffix(".svg").read_text(encoding="utf-8")
    return {unescape(name) for name in findall(rf'id="{kind}:([^"]+)"', svg)}


def test_picture_shows_the_rooms_on_disk(source: list) -> None:
    on_disk = {
        f"{package}.{path.stem}"
        for package in PACKAGES
        for path in (ROOT / package).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    on_disk -= {f"{package}.__init__" for package in PACKAGES}
    assert drawn("room") == on_disk, DRAW
    assert {f"{rooms.package}.{room}" for rooms in source for room in rooms.imports} == on_disk


def test_pictures_arrows_are_those_of_the_source(source: list) -> None:
    arrows = {f"{rooms.package}.{upper}>{rooms.package}.{lower}" for rooms in source for upper, lower in rooms.arrows}
    assert drawn("arrow") == arrows | {"sweeps>kdas", "analysis>kdas"}, DRAW


def test_following_arrows_leads_to_every_import_and_never_upwards(source: list) -> None:
    for rooms in source:
        below: dict[str, set[str]] = {room: set() for room in rooms.imports}
        for upper, lower in sorted(rooms.arrows, key=lambda arrow: rooms.levels[arrow[0]]):
            assert rooms.levels[upper] > rooms.levels[lower]
            below[upper] |= {lower} | below[lower]
        for room, imported in rooms.imports.items():
            assert imported <= below[room]


def test_boxes_are_at_the_height_of_their_level_and_do_not_overlap(script: ModuleType, source: list) -> None:
    for rooms in source:
        centres = script.laid_out(rooms).centres
        for upper, lower in rooms.arrows:
            assert centres[upper][1] > centres[lower][1] + script.HEIGHT
        in_rows = sorted((y, x) for x, y in centres.values())
        for (y, x), (next_y, next_x) in pairwise(in_rows):
            assert y != next_y or next_x - x >= script.WIDTH


def test_rooms_that_import_each_other_are_refused(script: ModuleType) -> None:
    circle = {"a": frozenset({"b"}), "b": frozenset({"a"}), "c": frozenset()}
    with pytest.raises(ValueError, match=r"kdas: \['a', 'b'\] import each other"):
        _ = script.Rooms("kdas", circle, {}, frozenset()).levels


def test_picture_is_small() -> None:
    assert SCRIPT.with_suffix(".svg").stat().st_size < 150_000
