"""The header of a bank's file is trusted only if the file is complete and is a bank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdas.teacher.bank.store import HEADER_BYTES, Shape, create, read_header

SHAPE = Shape(num_images=400, num_views=3, num_classes=10, precision="float16")
IDENTITY = {"teacher": "drawn", "views": ["CropFlip", {"padding": 1}]}


def new_bank(folder: Path) -> Path:
    create(folder / "a.bank", SHAPE, IDENTITY)
    return folder / "a.bank"


def test_header_says_what_the_records_are(tmp_path: Path) -> None:
    assert read_header(new_bank(tmp_path)) == (SHAPE, IDENTITY)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"no json",
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"format": 0}',
        b'{"format": 1}',
        b'{"format": 1, "shape": []}',
        b'{"format": 1, "shape": {"num_images": 1}}',
        b'{"format": 1, "shape": {"num_images": "x", "num_views": 3, "num_classes": 10, "precision": "float16"}}',
        b'{"format": 1, "shape": {"num_images": 6, "num_views": 3, "num_classes": 10, "precision": "int8"}}',
        b"[" * 4096,
    ],
    ids=range(12),
)
def test_file_without_a_header_of_ours_is_no_bank(tmp_path: Path, header: bytes) -> None:
    path = new_bank(tmp_path)
    content = bytearray(path.read_bytes())
    content[:HEADER_BYTES] = header.ljust(HEADER_BYTES)
    path.write_bytes(content)
    assert read_header(path) is None


def test_header_of_an_older_layout_is_no_bank(tmp_path: Path) -> None:
    path = new_bank(tmp_path)
    content = path.read_bytes()
    header = json.loads(content[:HEADER_BYTES]) | {"format": 0}
    path.write_bytes(json.dumps(header).encode().ljust(HEADER_BYTES) + content[HEADER_BYTES:])
    assert read_header(path) is None


@pytest.mark.parametrize("change", [-1, 1, -HEADER_BYTES])
def test_file_of_another_size_is_no_bank(tmp_path: Path, change: int) -> None:
    path = new_bank(tmp_path)
    with path.open("r+b") as file:
        file.truncate(SHAPE.num_bytes + change)
    assert read_header(path) is None


def test_file_that_is_not_there_is_no_bank(tmp_path: Path) -> None:
    assert read_header(tmp_path / "none.bank") is None
