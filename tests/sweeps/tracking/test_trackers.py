"""Which trackers are on, and the one of docs/extending.md exactly as printed there."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdas.errors import UserError
from sweeps import __main__ as program
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.tracking.follower import followed
from sweeps.tracking.trackers import trackers
from tests.places import ROOT
from tests.sweeps.conftest import curve_row, train_on_paper

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```python\n(?P<code># my_tracker\.py\n.*?)```\n+```sh\n(?P<lines>.*?)```", re.DOTALL)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tracker of the page is in the current folder."""
    found = EXAMPLE.search(PAGE)
    assert found is not None
    (tmp_path / "my_tracker.py").write_text(found["code"], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_tracker", None)


@pytest.fixture
def jobs(spec: SweepSpec) -> list[Job]:
    return plan_of(spec).baselines


def turn_on(monkeypatch: pytest.MonkeyPatch, names: str) -> None:
    monkeypatch.setenv("KDAS_TRACKING", names)


def test_mlflow_is_on_unless_the_variable_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDAS_TRACKING", raising=False)
    assert list(trackers()) == ["mlflow"]
    for names, expected in (("", []), ("tensorboard,mlflow", ["tensorboard", "mlflow"])):
        turn_on(monkeypatch, names)
        assert list(trackers()) == expected


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("tensorbord", r"KDAS_TRACKING=tensorbord: unknown\. Did you mean tensorboard\? Write your own tracker as"),
        ("mlflow mlflow", r"KDAS_TRACKING: mlflow is given twice\. Remove one\."),
        ("nowhere:Any", r"KDAS_TRACKING=nowhere:Any: no module nowhere\. Use a package\.module"),
        ("my_tracker:Other", r"KDAS_TRACKING=my_tracker:Other: Other is no class of that module\. Write a class with"),
        ("my_tracker:Service", r"KDAS_TRACKING=my_tracker:Service: Service has no update, leave, sync\. Write a class"),
    ],
)
def test_a_wrong_name_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, names: str, message: str) -> None:
    turn_on(monkeypatch, names)
    with pytest.raises(UserError, match=message):
        trackers()


@pytest.mark.usefixtures("own")
def test_tracker_of_the_page_is_sent_each_evaluation_once(
    monkeypatch: pytest.MonkeyPatch, directory: SweepDirectory, jobs: list[Job]
) -> None:
    found = EXAMPLE.search(PAGE)
    assert found is not None and 'KDAS_TRACKING="mlflow tensorboard my_tracker:MyTracker"' in found["lines"]
    turn_on(monkeypatch, "my_tracker:MyTracker")
    (make,) = trackers().values()
    folder = directory.trial(jobs[0].trial_id)
    folder.begin(jobs[0])
    folder.append(curve_row(jobs[0], 1, 0.5), [])
    make(directory).update()
    folder.append(curve_row(jobs[0], 2, 0.9), [])
    for _ in range(2):  # as after a restart
        assert make(directory).sync() == "all evaluations are in service.jsonl"
    make(directory).leave()
    sent = [json.loads(line) for line in (directory.path / "service.jsonl").read_text().splitlines()]
    assert [(each["trial"], each["step"], each["val_accuracy"]) for each in sent] == [
        (jobs[0].trial_id, 1, 0.5),
        (jobs[0].trial_id, 2, 0.9),
    ]


@pytest.mark.usefixtures("own")
def test_a_tracker_that_fails_keeps_no_other_from_being_told(
    monkeypatch: pytest.MonkeyPatch, directory: SweepDirectory, jobs: list[Job]
) -> None:
    def fail(view: MlflowView, directory: SweepDirectory) -> None:
        raise ConnectionError("refused\nat length")

    monkeypatch.setattr(MlflowView, "__init__", fail)
    turn_on(monkeypatch, "mlflow my_tracker:MyTracker")
    told: list[str] = []
    with followed(directory, lambda: True, told.append, lambda: True):
        train_on_paper(directory, jobs[0], [0.5])
    assert told == ["Some runs were not uploaded to mlflow (ConnectionError: refused). Results are complete."]
    assert (directory.path / "service.jsonl").exists()


@pytest.mark.usefixtures("own")
def test_a_tracker_is_told_that_a_sweep_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, directory: SweepDirectory
) -> None:
    turn_on(monkeypatch, "my_tracker:MyTracker")
    left: list[str] = []
    monkeypatch.setattr(trackers()["my_tracker:MyTracker"], "leave", lambda tracker: left.append("left"))
    for is_finished in (True, False):
        with followed(directory, lambda is_finished=is_finished: is_finished, print, lambda: True):
            pass
    assert left == ["left"]


@pytest.mark.usefixtures("own")
def test_sync_calls_every_tracker(
    monkeypatch: pytest.MonkeyPatch, directory: SweepDirectory, jobs: list[Job], spec: SweepSpec
) -> None:
    monkeypatch.setenv("RUNS_DIR", str(directory.path.parent))
    keep_spec(spec, directory)
    train_on_paper(directory, jobs[0], [0.5])
    turn_on(monkeypatch, "tensorboard my_tracker:MyTracker")
    done = CliRunner().invoke(program.app, ["sync", "tiny"], catch_exceptions=False)
    first, second = done.output.splitlines()
    assert first.startswith("tiny: TensorBoard's files in ") and second == "tiny: all evaluations are in service.jsonl"
