"""Names that look like markup are printed as they are, by every command."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdas.records import Measure, Status
from sweeps import __main__ as program
from sweeps.execution.progress import Progress
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view.address import tracking_uri, without_secrets
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.preview import print_first_trials
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import spec_text
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import write_measure
from tests.places import ROOT
from tests.sweeps.conftest import search_of, train_on_paper

NAME, METHOD = "[red]x:smile:", "plain[/b] [bold]:smile:"


@pytest.fixture
def marked(spec: SweepSpec) -> SweepSpec:
    content = {
        **spec.model_dump(mode="json"),
        "baselines": {METHOD: "full"},
        "known_points": [],
        "algorithm": "random",
        "search": {"start_rate": {"low": 0.3, "high": 0.9}},
    }
    return SweepSpec.model_validate(content)


@pytest.fixture
def recorded(marked: SweepSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    """A finished sweep but for one trial that crashed."""
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    # Not by COLUMNS, which is read when the console is made.
    monkeypatch.setattr(program.console, "width", 200)
    directory = SweepDirectory(tmp_path / NAME)
    directory.path.mkdir()
    directory.spec_file.write_text(spec_text(marked), encoding="utf-8")
    write_measure(directory, Measure(NAME, 0.4, "given", 10.0, METHOD, "validation", "by-hand", "digits", (1, 2), 4))
    search = search_of(directory.study_file, marked)
    for _ in range(marked.num_configurations):
        asked = search.ask()
        assert asked is not None
        for job in plan_of(marked).searched(asked.point):
            train_on_paper(directory, job, [0.3, 0.5])
        search.tell(asked.number, [2.0])
    for job in plan_of(marked).baselines:
        train_on_paper(directory, job, [0.3, 0.5])
    return directory


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(program.app, arguments, catch_exceptions=False)
    return str(done.output)


def test_status_prints_names_as_they_are(recorded: SweepDirectory, marked: SweepSpec) -> None:
    recorded.trial(plan_of(marked).baselines[0].trial_id).begin(plan_of(marked).baselines[0])
    text = printed("status", NAME)
    assert f"{NAME}: 6 trials" in text and text.count(METHOD) == 2


def test_sync_prints_names_as_they_are(recorded: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MlflowView, "__init__", lambda view, directory: None)
    monkeypatch.setattr(MlflowView, "sync", lambda view: without_secrets(tracking_uri()))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/[/b]:smile:.db")
    assert "sqlite:////tmp/[/b]:smile:.db" in printed("sync", NAME)


def test_simulate_prints_names_as_they_are(recorded: SweepDirectory) -> None:
    assert "2 recorded configurations" in printed("simulate", NAME, "--replays", "1", "--search", "random")


def test_first_trials_of_a_preview_are_printed_as_they_are(
    marked: SweepSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    print_first_trials(plan_of(marked), program.console)
    assert METHOD in capsys.readouterr().out


def test_progress_of_a_run_is_printed_as_it_is(
    recorded: SweepDirectory, marked: SweepSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    job = plan_of(marked).baselines[0]
    folder = recorded.trial(job.trial_id)
    with Progress(NAME, 2, 10.0, 1, program.console) as progress:
        progress.started(job)
        progress.ended(job, folder)
        folder.end(Status.CRASHED, "ValueError: [/b]")
        progress.ended(job, folder)
        progress.started(job)
        program.console.print(progress._panel())
    text = capsys.readouterr().out
    assert text.count(METHOD) >= 4 and "ValueError: [/b]" in text and NAME in text


def test_every_console_prints_text_as_it_is() -> None:
    """Markup is off where a console is made, so no place that prints has to think of it."""
    made = 0
    for path in (path for package in ("kdas", "sweeps", "analysis") for path in (ROOT / package).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(text)) if "Console(" in text else ():
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Console":
                made += 1
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert (given.get("markup"), given.get("emoji")) == ("False", "False"), path
    assert made >= 4
