"""Small JSON files: they come back as they were written, or are known to be damaged."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError
from kdas.files.record import DamagedError, read_record, write_record
from kdas.records import is_intact, with_check

CONTENT: dict[str, Any] = {
    "name": "é",
    "value": 0.1,
    "never": math.inf,
    "seeds": [1, 2],
    "inner": {"b": None, "a": True},
}


def test_content_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    write_record(path, CONTENT)
    assert read_record(path, "name", "value", remedy="") == CONTENT


def test_file_of_an_earlier_version_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_text('{"name": "before"}')
    assert read_record(path, remedy="") == {"name": "before"}


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 40, b'{"name": "before"', b"[]", b'{"name": 1, "check": "00000000"}', b"\xff\xfe{", b"[" * 100_000],
    ids=["empty", "zeros", "half", "list", "changed", "not utf-8", "deep"],
)
def test_damage_is_one_line_with_the_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"^[^\n]*some\.json: is damaged[^\n]*\. Do this\.$"):
        read_record(path, "name", remedy="Do this.")


def test_missing_key_is_damage_and_a_missing_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    with pytest.raises(FileNotFoundError, match=r"some\.json"):
        read_record(path, remedy="")
    write_record(path, CONTENT)
    with pytest.raises(DamagedError, match=r"some\.json: is damaged\. Do this\.$"):
        read_record(path, "absent", remedy="Do this.")


def test_file_that_the_system_does_not_let_us_read_is_not_taken_for_damaged(tmp_path: Path) -> None:
    """What is damaged is deleted and computed again; this may be intact."""
    path = tmp_path / "some.json"
    path.mkdir()
    with pytest.raises(UserError, match=r"some\.json: cannot be read: Is a directory\. ") as caught:
        read_record(path, remedy="")
    assert not isinstance(caught.value, DamagedError)


def test_check_does_not_depend_on_the_order_of_keys() -> None:
    sealed = with_check(CONTENT)
    assert is_intact(dict(reversed(sealed.items())))
    assert not is_intact({**sealed, "value": 0.2})


def test_new_name_is_on_the_disk_before_writing_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    write_record(tmp_path / "some.json", CONTENT)
    assert synced == [(tmp_path / "some.json").stat().st_ino, tmp_path.stat().st_ino]
