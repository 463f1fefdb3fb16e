"""A user without a home folder or a name, as in containers: it works, or one line says what to set."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError, run_command_line
from kdas.files.cache import cache_root, check_cache
from kdas.files.home import ensure_home

NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "KDAS_CACHE")


@pytest.fixture
def unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose number has no entry in the system's list."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    true_home = Path.home

    def home() -> Path:
        if "HOME" in os.environ:
            return true_home()
        raise RuntimeError("Could not determine home directory.")

    def unknown(number: int) -> Any:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.usefixtures("unknown_user")
def test_cache_folder_serves_as_home_and_the_number_as_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))
    ensure_home()
    assert Path.home() == tmp_path / "cache"
    assert getpass.getuser() == f"user{os.getuid()}"


@pytest.mark.usefixtures("unknown_user")
@pytest.mark.parametrize("cache", ["", "~/cache"])
def test_without_either_one_line_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: str
) -> None:
    monkeypatch.setenv("KDAS_CACHE", cache)
    with pytest.raises(SystemExit, match=r"^2$"):
        run_command_line(lambda: pytest.fail("the command began"), ensure_home)
    said = capsys.readouterr().err
    assert (
        said == f"HOME: the user {os.getuid()} has no home folder. Set HOME, or KDAS_CACHE, to a folder that it may"
        " write to.\n"
    )


def test_what_is_known_stays_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USER", "somebody")
    before = dict(os.environ)
    ensure_home()
    assert dict(os.environ) == before


def test_cache_that_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=rf"^{cache_root()}: cannot be written to: [^.]+\. Set KDAS_CACHE to a folder"):
        check_cache()
