"""The commands that ask something of a sweep, and what a running sweep says and does about it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from kdas.records import Status
from kdas.training.trial import Inputs
from sweeps.command import requests
from sweeps.execution.requested import Listener
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.control import Requests, read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.status import print_status
from tests.sweeps.conftest import TINY, train_on_paper
from tests.sweeps.engine.test_agenda import agenda_of
from tests.sweeps.record.test_status import MEASURE


@pytest.fixture
def jobs(spec: SweepSpec, directory: SweepDirectory) -> dict[str, Job]:
    """Unfinished trials, by what they are, and one that has ended."""
    plan = plan_of(spec)
    searched, ended = plan.searched({"start_rate": 0.7, "sampling_period": 3})
    jobs = {"baseline": plan.baselines[0], "searched": searched}
    for job in jobs.values():
        directory.trial(job.trial_id).begin(job)
    train_on_paper(directory, ended, [0.5])
    return {**jobs, "ended": ended}


def shown(directory: SweepDirectory) -> str:
    printed = io.StringIO()
    print_status(directory, Console(file=printed, width=140))
    return printed.getvalue()


def test_a_sweep_that_does_not_run_cannot_be_paused(directory: SweepDirectory) -> None:
    for ask in (requests.pause, requests.resume):
        with pytest.raises(UserError, match=r"^tiny: does not run, .* Start it: make sweep NAME=tiny$"):
            ask(directory)
    assert not directory.control_file.exists()


def test_only_trials_of_the_search_can_be_stopped(directory: SweepDirectory, jobs: dict[str, Job]) -> None:
    for kind, said in (
        ("baseline", "is of the baseline plain_kd, and the answer needs it whole"),
        ("ended", "has ended as budget"),
    ):
        with pytest.raises(UserError, match=said):
            requests.stop(directory, jobs[kind].trial_id)
    trial_id = jobs["searched"].trial_id
    for unknown in ("nothing", "../../x-s1", f"{trial_id}0", ""):
        with pytest.raises(UserError, match=r"no trial .* (Did you mean \w+-s\d|Of the search, under way: )"):
            requests.stop(directory, unknown)
    assert "stops when the sweep is next run" in requests.stop(directory, trial_id)
    requests.stop(directory, trial_id)
    assert read_requests(directory).stopped == (trial_id,)
    assert "to be stopped" in shown(directory)


def test_a_confirmation_run_cannot_be_stopped(spec: SweepSpec, directory: SweepDirectory) -> None:
    confirmed = SweepSpec.model_validate({**spec.model_dump(), "confirm": {"top": 1, "seeds": [101]}})
    plan = plan_of(confirmed)
    finalist = plan.searched({"start_rate": 0.7, "sampling_period": 3})[0]
    job = plan.confirmation([finalist], 1)[-1]
    directory.trial(job.trial_id).begin(job)
    with pytest.raises(UserError, match="is of the confirmation"):
        requests.stop(directory, job.trial_id)


def test_status_shows_what_was_asked(directory: SweepDirectory) -> None:
    with directory.locked():
        requests.pause(directory)
        assert "paused: no trial starts. Continue it: make resume NAME=tiny" in shown(directory)
        requests.resume(directory)
        assert "paused" not in shown(directory)
        requests.pause(directory)
        requests.finish(directory)
        assert "the search was ended by request" in shown(directory) and "paused" not in shown(directory)


def test_a_finished_sweep_is_not_marked_as_cut_short(directory: SweepDirectory) -> None:
    write_measure(directory, replace(MEASURE, num_planned_trials=2, num_ended_trials=2))
    for ask, what in ((requests.finish, "end"), (requests.pause, "pause"), (requests.resume, "resume")):
        with pytest.raises(UserError, match=rf"^tiny has already finished; nothing to {what}\.$"):
            ask(directory)
    assert not directory.control_file.exists() and "ended by request" not in shown(directory)
    write_measure(directory, MEASURE)  # as a later start with more configurations does
    requests.finish(directory)
    assert read_requests(directory).finishes


def test_a_damaged_file_is_one_line_and_changes_nothing_for_a_running_sweep(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    said: list[str] = []
    agenda = agenda_of(spec, inputs, directory)
    listener = Listener(agenda, directory, spec.num_configurations, said.append)
    listener.look()
    with directory.locked():
        requests.pause(directory)
        listener.look()
        listener.look()
        assert said == ["Paused, as you asked: no trial starts."]
        directory.control_file.write_bytes(directory.control_file.read_bytes()[:20])
        for _ in range(2):
            listener.look()
        assert len(said) == 2 and "control.json: is damaged" in said[1] and "\n" not in said[1]
        assert agenda.next_job() is None
        with pytest.raises(UserError, match=r"control\.json: is damaged"):
            requests.resume(directory)
    assert "control.json: is damaged" in shown(directory)
    directory.control_file.unlink()
    listener.look()
    assert said[2:] == ["No longer paused."]


def test_a_running_sweep_is_paused_resumed_and_finished_early(tmp_path: Path, cache_of_the_tests: Path) -> None:
    source = tmp_path / "asked.yaml"
    content = {
        **read_yaml(TINY),
        "baselines": {"plain_kd": "full"},
        "known_points": [],
        "seeds": 1,
        "confirm": {"top": 1, "seeds": [101]},
        "budget": {"configurations": 500},
        "resources": {"trials_at_once": 1},
    }
    source.write_text(yaml.safe_dump(content), encoding="utf-8")
    environment = {**os.environ, "RUNS_DIR": str(tmp_path / "runs"), "KDAS_CACHE": str(cache_of_the_tests)}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "sweeps"]

    def ask(*words: str) -> str:
        done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with subprocess.Popen(
        [*command, "sweep", str(source)], env=environment, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        lines: list[str] = []

        def read_until(part: str) -> None:
            """Also what comes after it in the same line."""
            assert running.stdout is not None
            for line in running.stdout:
                lines.append(line)
                if part in line:
                    return
            raise AssertionError(f"{part!r} is not among {lines}")

        read_until("started kdas_search")
        ask("pause", "asked")
        read_until("Paused, as you asked")
        under_way = sum(line.startswith("started") for line in lines) - sum(line.startswith("[") for line in lines)
        paused_at = len(lines)
        for _ in range(under_way):
            read_until("[")
        assert "paused: no trial starts" in ask("status", "asked")
        ask("resume", "asked")
        read_until("No longer paused")
        assert not any(line.startswith("started") for line in lines[paused_at:])
        read_until("started kdas_search")
        assert "the search ends now" in ask("finish", str(source))
        read_until("The search ends, as you asked. To continue it, raise budget.configurations above 500.")
        read_until("The search ended early: as you asked")
        rest = running.stdout.read()
    assert running.returncode == 0, rest
    path = tmp_path / "runs" / "asked"
    assert (path / "report.html").exists()
    trials = pd.read_parquet(path / "trials.parquet")
    assert set(trials["status"]) <= {"budget", "reached"}
    assert sorted(trials[trials["phase"] == "confirm"]["method"]) == ["kdas_search", "plain_kd"]
    # The request outlives the process: another start trains nothing.
    again = ask("sweep", str(source))
    assert "The search ends, as you asked" in again and "started" not in again
    assert read_requests(SweepDirectory(path)) == Requests(finishes=True, finished_at=500)
    assert {folder.status for folder in SweepDirectory(path).trials()} == {Status.BUDGET}
