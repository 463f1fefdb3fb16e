"""A sweep that has run to its end, and is asked for more."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from sweeps.engine.agenda import Agenda
from sweeps.file.added import with_added, with_recorded
from sweeps.file.loading import load_spec, recorded_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.warm_start import with_warm_start
from sweeps.record.check import check_sweep
from sweeps.record.control import Requests, change_requests, read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.winner import winner_of
from sweeps.replay.recorded import load_recording
from sweeps.run import run_sweep
from tests.sweeps.conftest import TINY, Swept, written
from tests.sweeps.record.test_damage import train_here


@pytest.fixture
def copy(swept: Swept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    monkeypatch.setattr("sweeps.run._train", train_here)
    shutil.copytree(swept.directory.path, tmp_path / "tiny")
    return SweepDirectory(tmp_path / "tiny")


def points_of(directory: SweepDirectory) -> list[float]:
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


def widened(spec: SweepSpec) -> SweepSpec:
    search = {"start_rate": {"low": 0.1, "high": 1.0}, "sampling_period": [2, [1, 3, 5, 10], 1, 3]}
    return SweepSpec.model_validate({**spec.model_dump(), "search": search, "budget": {"configurations": 5}})


def test_a_wider_space_is_searched_on_and_everything_reads_it(spec: SweepSpec, copy: SweepDirectory) -> None:
    narrow, before = spec.space, points_of(copy)
    assert run_sweep(widened(spec), TINY, copy, Console(quiet=True))
    assert len(points_of(copy)) == len(before) + 3 * 2
    assert all(points_of(copy).count(rate) >= before.count(rate) for rate in before)
    recording = load_recording(recorded_spec(copy.spec_file), copy)
    searched = [point for point in recording.points if point != narrow.first[0]]
    assert len(searched) == 5
    assert [narrow["start_rate"].values.holds(point["start_rate"]) for point in searched].count(False) >= 1
    assert winner_of(copy).description["config_id"] in {f.description["config_id"] for f in copy.trials()}
    assert not check_sweep(copy)
    # A finished sweep does nothing when it is started again.
    again = points_of(copy)
    assert run_sweep(widened(spec), TINY, copy, Console(quiet=True))
    assert points_of(copy) == again
    with pytest.raises(
        UserError, match=r"search\.start_rate\.low was 0\.1 when this sweep began and is 0\.3 now\. Wid"
    ):
        run_sweep(spec, TINY, copy, Console(quiet=True))


def test_a_wider_space_is_recorded_before_anything_is_proposed_from_it(
    spec: SweepSpec, copy: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(agenda: Agenda) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Agenda, "fill", killed)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(widened(spec), TINY, copy, Console(quiet=True))
    assert recorded_spec(copy.spec_file).search == widened(spec).search


def test_another_sweep_begins_with_the_best_of_this_one(copy: SweepDirectory, tmp_path: Path) -> None:
    content = {**read_yaml(TINY), "loss": "dkd", "known_points": [], "warm_start": ["tiny"]}
    path = written(tmp_path / "files", "second.yaml", **content)
    second = SweepDirectory(tmp_path / "second")
    spec = with_warm_start(load_spec(path), second, path)
    printed = io.StringIO()
    assert run_sweep(spec, path, second, Console(file=printed, width=200))
    assert "1 setting of tiny is tried first." in printed.getvalue()
    (taken,) = spec.warm_start.taken
    assert taken.point["start_rate"] in [round(rate, 4) for rate in points_of(copy)]
    assert points_of(second).count(taken.point["start_rate"]) == 2
    shutil.rmtree(copy.path)
    assert run_sweep(with_warm_start(load_spec(path), second, path), path, second, Console(quiet=True))


def test_an_unknown_sweep_is_refused_in_a_line_before_anything_is_spent(swept: Swept, tmp_path: Path) -> None:
    path = written(tmp_path / "files", "second.yaml", **{**read_yaml(TINY), "warm_start": ["tinny"]})
    refused = swept.run("sweep", str(path))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert "second.yaml: warm_start: tinny: no sweep of this name has run in" in refused.stderr
    assert "Did you mean tiny?" in refused.stderr
    assert not (swept.directory.path.parent / "second").exists()
