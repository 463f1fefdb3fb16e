"""Sweeps of one machine hear of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps.prepare import neighbours as module
from sweeps.prepare.neighbours import Neighbours
from tests.places import ROOT

OTHER = """
import sys
from sweeps.prepare.neighbours import Neighbours
with Neighbours("theirs").told():
    print("told", flush=True)
    sys.stdin.read()
"""


def test_a_sweep_is_told_once_of_each_other_sweep_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.0)
    ours = Neighbours("ours")
    with ours.told():
        assert ours.news() == []
        other = subprocess.Popen(
            [sys.executable, "-c", OTHER],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert other.stdout is not None and other.stdin is not None
        assert other.stdout.readline() == "told\n"
        (said,) = ours.news()
        assert said.startswith(f"theirs trains on this machine too (process {other.pid}).")
        assert ours.news() == []
        assert ours.names() == ["theirs"]
        other.communicate()
        assert ours.news() == []
        assert ours.names() == []
    assert list(tmp_path.rglob("*.lock")) == []


def test_what_a_killed_sweep_left_is_no_neighbour_and_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    ours = Neighbours("ours")
    folder = ours._folder
    folder.mkdir(parents=True)
    (folder / "1.lock").touch()
    (folder / "1.name").write_text("theirs")
    long_ago = time.time() - 3600
    os.utime(folder / "1.lock", (long_ago, long_ago))
    assert ours.news() == []
    assert list(folder.iterdir()) == []


def test_a_cache_that_cannot_be_written_keeps_nothing_from_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    monkeypatch.setenv("KDAS_CACHE", str(in_the_way))
    ours = Neighbours("ours")
    with ours.told():
        assert ours.news() == []
