"""Where Ray's sockets go: a path that is too long for them is found out before anything is computed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.execution import ray_folder as module
from sweeps.execution.ray_folder import parent_of_ray_folder, ray_folder

SOCKET = "/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store.1"


@pytest.fixture
def short() -> Path:
    """A folder whose path is short enough, as a user's TMPDIR mostly is."""
    return Path(tempfile.mkdtemp(prefix="k", dir="/tmp"))


def test_a_short_temporary_folder_is_used_and_left_clean(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    with ray_folder() as first, ray_folder() as second:
        assert first.parent == second.parent == short
        assert first != second
        (first / "session").mkdir()
    assert list(short.iterdir()) == []
    short.rmdir()


def test_a_long_temporary_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    with ray_folder() as folder:
        assert not folder.is_relative_to(long)
        assert len(str(folder) + SOCKET) <= 103


def test_where_no_folder_is_short_and_writable_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    monkeypatch.setattr(module, "_OTHERS", ("/proc/none",))
    with pytest.raises(UserError, match=r"RAY_TMPDIR: Ray needs a writable folder .* at most \d+ bytes"):
        parent_of_ray_folder()
