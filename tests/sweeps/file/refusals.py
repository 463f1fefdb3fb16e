"""Sweep files with mistakes, and the lines that they are refused with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from sweeps.file.loading import load_spec
from tests.sweeps.conftest import TINY

BASE = {**read_yaml(TINY), "known_points": []}
RATE = {"low": 0.3, "high": 0.9}


def search(**values: Any) -> dict[str, Any]:
    """Content of a file that searches these parameters; `loss__beta` stands for `loss.beta`."""
    return {"search": {name.replace("__", "."): value for name, value in values.items()}}


def written(tmp_path: Path, content: dict[str, Any], name: str = "mine.yaml") -> Path:
    path = tmp_path / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def refusal(path: Path, *settings: str) -> str:
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(path, settings=settings)
    line = str(caught.value)
    assert "\n" not in line
    return line
