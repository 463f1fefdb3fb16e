"""A sweep that has run to its end, and is asked for more."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sweeps.file.added import with_added, with_recorded
from sweeps.file.spec import SweepSpec
from sweeps.record.control import Requests, change_requests, read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.run import run_sweep
from tests.sweeps.conftest import TINY, Swept
from tests.sweeps.record.test_damage import train_here


@pytest.fixture
def copy(swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.setattr("sweeps.run._train", train_here)
    shutil.copytree(swept.directory.path, tmp_path / "tiny")
    return SweepDirectory(tmp_path / "tiny")


def points_of(directory: SweepDirectory) -> list[object]:
    described = [folder.description for folder in directory.trials()]
    return [each["proposal"]["params"]["start_rate"] for each in described if "proposal" in each]


def test_an_added_configuration_is_trained_and_stays_with_the_sweep(spec: SweepSpec, copy: SweepDirectory) -> None:
    def run(sweep: SweepSpec, added: object = ()) -> str:
        printed = io.StringIO()
        assert run_sweep(sweep, TINY, copy, Console(file=printed, width=200), added=added)  # type: ignore[arg-type]
        return printed.getvalue()

    # Who asks for more than there was takes back the end of the search.
    change_requests(copy, lambda asked: replace(asked, finishes=True))
    assert "The search ends, as you asked" in run(spec)
    before = len(points_of(copy))
    more, new = with_added(spec, ["start_rate=.55 sampling_period=3"], copy)
    run(more, new)
    assert points_of(copy).count(0.55) == 2 and len(points_of(copy)) == before + 2
    assert read_requests(copy) == Requests(added=tuple(new), configurations=3)
    kept = with_recorded(spec, copy)
    assert kept == more
    run(kept)
    assert len(points_of(copy)) == before + 2


def test_known_points_may_grow_and_need_a_larger_budget(spec: SweepSpec, copy: SweepDirectory) -> None:
    points = [*spec.known_points, {"start_rate": 0.55, "sampling_period": 3}]

    def run(configurations: int) -> str:
        printed = io.StringIO()
        changes = {"known_points": points, "budget": {"configurations": configurations}}
        grown = SweepSpec.model_validate({**spec.model_dump(), **changes})
        assert run_sweep(grown, TINY, copy, Console(file=printed, width=200))
        return printed.getvalue()

    said = "1 of known_points not tried: 2 configurations were searched before. Raise budget.configurations."
    assert said in run(2) and 0.55 not in points_of(copy)
    assert "not tried" not in run(3)
    assert points_of(copy).count(0.55) == 2
