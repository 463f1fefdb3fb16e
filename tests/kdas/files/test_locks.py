"""Locks on file systems that have none, of other users, and of processes that are gone."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdas.errors import UserError
from kdas.files.locks import is_held, locked


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
@pytest.mark.parametrize("is_stale", [False, True])
def test_a_file_system_without_locks_is_refused_in_one_line_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, is_stale: bool
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    path = tmp_path / "a.lock"
    if is_stale:
        path.write_text("left by a process that was killed\n")
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UserError, match=r"a\.lock: this file system refuses locks \(.+\)\. Set RUNS_DIR to a folder"):
        locked(path, variable="RUNS_DIR").__enter__()


def test_a_lock_file_that_a_killed_process_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("12345 gone\n")
    assert not is_held(path)
    with locked(path, timeout_s=0):
        assert is_held(path)
    assert not is_held(path)


def test_a_lock_that_may_not_be_written_is_refused_and_its_owner_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    path.touch()
    real = os.open

    def deny(name: str | Path, flags: int, *rest: int) -> int:
        if Path(name) == path and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(name, flags, *rest)

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(UserError, match=rf"may not write this lock file, which belongs to {path.owner()}\. Set KDAS"):
        locked(path).__enter__()


@pytest.mark.skipif(os.getuid() != 0, reason="becomes another user")
def test_another_user_sees_that_a_lock_is_held(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(("pytest", "popen")):
            folder.chmod(0o755)
    tmp_path.chmod(0o755)
    ask = (
        "import os, sys; from pathlib import Path; from kdas.files.locks import is_held; os.setuid(65534);"
        "print(is_held(Path(sys.argv[1])))"
    )
    with locked(path):
        done = subprocess.run([sys.executable, "-c", ask, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
