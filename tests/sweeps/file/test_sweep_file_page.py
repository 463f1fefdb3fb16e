"""docs/sweep-file.md describes what the program accepts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from sweeps.__main__ import app
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from tests.places import ROOT

PAGE = ROOT / "docs" / "sweep-file.md"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
COMMANDS = re.findall(r'SET="(.*?)"\n', PAGE.read_text(encoding="utf-8"))


def test_page_is_up_to_date_with_the_models() -> None:
    written = CliRunner().invoke(app, ["schema", "--markdown"]).output
    assert PAGE.read_text(encoding="utf-8") == written, (
        "write it again: .venv/bin/python -m sweeps schema --markdown > docs/sweep-file.md"
    )


def test_every_key_is_on_the_page_with_a_meaning() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name for name in SweepSpec.model_fields if not rows.get(name)} == set()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0])
def test_every_example_is_a_sweep(block: str, tmp_path: Path) -> None:
    content = yaml.safe_load(block)
    path = tmp_path / "mine.yaml"
    # Known points of the extended file do not fit a block with its own search space.
    path.write_text(yaml.safe_dump({"extends": "digits_kd", "known_points": None, **content}), encoding="utf-8")
    spec = load_spec(path)
    assert spec.space.parameters
    if "cells" in content:
        assert len(spec.cells) in (2, 4)


@pytest.mark.parametrize("settings", COMMANDS)
def test_every_setting_of_the_page_can_be_set(settings: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: digits_kd\n", encoding="utf-8")
    assert load_spec(path, settings=[settings]) != load_spec(path)


def test_all_examples_of_the_page_are_found() -> None:
    assert len(BLOCKS) == 8 and len(COMMANDS) == 2
