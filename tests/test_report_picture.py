"""docs/pictures/report.py, and the picture of a report in the README."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from PIL import Image

from tests.places import ROOT

SCRIPT = ROOT / "docs" / "pictures" / "report.py"
PICTURE = SCRIPT.with_suffix(".png")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("report_picture", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_page_of_the_picture_is_the_report_plus_what_hides_parts(script: ModuleType) -> None:
    page = "<html><body><figure></figure></body></html>"
    assert script.trimmed(page) == f"<html><body><figure></figure>{script.LEAVE_OUT}</body></html>"


@pytest.mark.parametrize(
    ("template", "sought"),
    [("base.html.j2", "</body>"), ("macros.html.j2", '<div class="wide"><table'), ("macros.html.j2", "<figure")],
)
def test_pages_hold_what_the_script_looks_for(template: str, sought: str) -> None:
    assert sought in (ROOT / "analysis" / "page" / "templates" / template).read_text(encoding="utf-8")


def test_readme_opens_with_the_picture_and_it_is_small() -> None:
    assert "](docs/pictures/report.png)" in (ROOT / "README.md").read_text(encoding="utf-8")[:2000]
    assert PICTURE.stat().st_size < 250_000
    with Image.open(PICTURE) as image:
        assert image.width > 1000
