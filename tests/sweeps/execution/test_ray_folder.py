"""Where Ray's sockets go: a path that is too long for them is found out before anything is computed."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.execution import ray_folder as module
from sweeps.execution.ray_folder import parent_of_ray_folder, ray_folder
from tests.places import ROOT

SOCKET = "/session_2026-01-01_00-00-00_123456_1234567/sockets/plasma_store.1"

LEAVES_ITS_FOLDER = """
import time
from sweeps.execution.ray_folder import ray_folder
with ray_folder() as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


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


def test_what_a_killed_process_left_is_removed_and_nothing_else(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    monkeypatch.setattr(module, "_STALE_AFTER_S", -1.0)
    killed = subprocess.Popen([sys.executable, "-c", LEAVES_ITS_FOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    left = Path(killed.stdout.readline().strip())
    (short / "kdas-of-others").mkdir()
    (short / "kdas-link").symlink_to(left)
    with ray_folder() as ours:
        assert left.exists()  # its process runs
        killed.kill()
        killed.communicate()
        with ray_folder():
            assert not left.exists()
            assert ours.exists()
    assert sorted(each.name for each in short.iterdir()) == ["kdas-link", "kdas-of-others"]
    shutil.rmtree(short)


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


def test_where_there_are_no_locks_a_folder_in_use_is_left_alone(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setenv("RAY_TMPDIR", str(short))
    monkeypatch.setattr(module, "_STALE_AFTER_S", -1.0)
    monkeypatch.setattr("fcntl.flock", refuse)
    with ray_folder() as ours, ray_folder() as theirs:
        assert ours.is_dir() and theirs.is_dir()
    shutil.rmtree(short)
