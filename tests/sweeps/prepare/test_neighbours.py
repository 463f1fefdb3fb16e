"""Sweeps of one machine hear of each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdas.files.locks import locked
from sweeps.engine.slots import Slots
from sweeps.prepare import neighbours as module
from sweeps.prepare.neighbours import Neighbours
from tests.places import ROOT

OTHER = """
import sys
from sweeps.engine.slots import Slots
from sweeps.prepare.neighbours import Neighbours
with Neighbours("theirs", Slots(1, 1, 0.0)).told():
    print("told", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("slots", "beside_it", "said"),
    [
        (Slots(5, 1, 0.0), 2, "They share the slots: this one starts trials while fewer than 2 run."),
        (Slots(1, 1, 0.0), 1, "They share the slots: this one starts trials while fewer than 1 run."),
        (
            Slots(5, 1, 0.0, is_fixed=True),
            5,
            "Both take longer. This one runs 5 at once, as resources.trials_at_once says.",
        ),
    ],
)
def test_sweeps_share_their_slots_while_both_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slots: Slots, beside_it: int, said: str
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.0)
    ours = Neighbours("ours", slots)
    assert ours.news() == [] and ours.share() == slots.trials_at_once
    theirs = ours._own.parent / "1.lock"
    theirs.parent.mkdir(parents=True)
    with locked(theirs):
        assert ours.news() == [f"Another sweep trains on this machine too (process 1). {said}"]
        assert ours.share() == beside_it
    assert ours.news() == []
    assert ours.share() == slots.trials_at_once


def test_a_sweep_is_told_once_of_each_other_sweep_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "_LOOKS_EVERY_S", 0.0)
    ours = Neighbours("ours", Slots(5, 1, 0.0))
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
        assert module.other_sweeps() == ["theirs"]
        other.communicate()
        assert ours.news() == []
        assert module.other_sweeps() == []
    assert list(tmp_path.rglob("*.lock")) == []


def test_what_a_killed_sweep_left_is_no_neighbour_and_is_cleared_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    ours = Neighbours("ours", Slots(5, 1, 0.0))
    folder = ours._own.parent
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
    ours = Neighbours("ours", Slots(5, 1, 0.0))
    with ours.told():
        assert ours.news() == []
