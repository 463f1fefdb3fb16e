from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from kdas.command.progress import TeacherProgress, readable_s
from kdas.errors import UserError
from kdas.records import Status
from kdas.training.trial import Inputs
from sweeps.engine.slots import slots_for, slots_of_machines
from sweeps.execution.progress import Progress
from sweeps.file.blocks import ResourcesConfig
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.overhead import keep_after, known_overhead
from tests.sweeps.conftest import identify_by, train_on_paper


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7500, "2 h 05 min")]
)
def test_seconds_read_well(seconds: float, text: str) -> None:
    assert readable_s(seconds) == text


def test_a_teachers_training_is_a_line_an_epoch_with_the_time_left() -> None:
    written = io.StringIO()
    show = TeacherProgress(Console(file=written, width=120))
    for epoch, accuracy in enumerate((0.0, 0.5, 0.75)):
        show(epoch, 2, accuracy)
    lines = written.getvalue().splitlines()
    assert lines[0] == "teacher: 2 epochs"
    assert lines[1].startswith("teacher: epoch 1 of 2, validation accuracy 0.5000, ")
    assert lines[1].endswith(" left")
    assert lines[2] == "teacher: epoch 2 of 2, validation accuracy 0.7500"


@pytest.fixture
def jobs(spec: SweepSpec, inputs: Inputs) -> list[Job]:
    return plan_of(spec, identify_by(inputs)).baselines


def progress_on(console: Console) -> Progress:
    progress = Progress("tiny", num_to_come=4, budget_ref_s=3.0, trials_at_once=2, console=console)
    progress.target_is(0.8, "by hand")
    return progress


def test_what_a_sweep_takes_besides_training_is_recorded(
    directory: SweepDirectory, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with progress_on(Console(file=io.StringIO())) as progress:
        progress.keep_overhead(90.0)  # nothing was trained
        keep_after(1.0)
        assert known_overhead() is None
        for job, resumes in ((jobs[0], False), (jobs[1], True)):
            progress.started(job, resumes=resumes)
            # Two evaluations after 3 seconds of training and 0.2 of evaluating.
            train_on_paper(directory, job, [0.5, 0.9])
            now += 5.0
            progress.ended(job, directory.trial(job.trial_id))
        now += 4.0
        progress.keep_overhead(90.0)
    found = known_overhead()
    assert found is not None
    assert (found.around_s, found.per_trial_s) == (10.0 + 4.0 + 1.0, pytest.approx(5.0 - 3.2))


def test_without_a_terminal_every_event_is_a_line(directory: SweepDirectory, jobs: list[Job]) -> None:
    written = io.StringIO()
    with progress_on(Console(file=written, width=200)) as progress:
        progress.started(jobs[0])
        progress.evaluated(jobs[0], 1.0, 0.5)
        train_on_paper(directory, jobs[0], [0.5, 0.9])
        progress.ended(jobs[0], directory.trial(jobs[0].trial_id))
        progress.started(jobs[2])
        train_on_paper(directory, jobs[2], [0.5], Status.CRASHED)
        progress.ended(jobs[2], directory.trial(jobs[2].trial_id))
    lines = written.getvalue().splitlines()
    assert lines[0] == "target: accuracy 0.8000 (by hand)"
    assert "started plain_kd seed 1" in lines
    assert any(
        line.startswith("[1 of 4") and line.endswith("plain_kd seed 1: target after 2.00 ref s") for line in lines
    )
    assert "crashed: rs2 0.6->0.4 seed 1: ValueError: as told" in lines


@pytest.mark.parametrize(
    ("accuracies", "says"),
    [([0.5, 0.9], "target after 2.00 ref s"), ([0.5, 0.7], "stopped early at 2.00 ref s, best accuracy 0.7000")],
)
def test_a_trial_that_was_stopped_at_the_target_has_reached_it(
    directory: SweepDirectory, jobs: list[Job], accuracies: list[float], says: str
) -> None:
    written = io.StringIO()
    with progress_on(Console(file=written, width=200)) as progress:
        progress.started(jobs[3])
        train_on_paper(directory, jobs[3], accuracies, Status.STOPPED_EARLY)
        progress.ended(jobs[3], directory.trial(jobs[3].trial_id))
    assert written.getvalue().splitlines()[-1].endswith(says)


def test_a_terminal_shows_done_running_failed_best_and_time_left(directory: SweepDirectory, jobs: list[Job]) -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    progress = progress_on(console)
    progress.started(jobs[0])
    train_on_paper(directory, jobs[0], [0.5, 0.9])
    progress.ended(jobs[0], directory.trial(jobs[0].trial_id))
    progress.started(jobs[2])
    train_on_paper(directory, jobs[2], [0.5], Status.CRASHED)
    progress.ended(jobs[2], directory.trial(jobs[2].trial_id))
    progress.started(jobs[3])
    progress.evaluated(jobs[3], 1.5, 0.75)
    plain = Console(file=io.StringIO(), width=120)
    plain.print(progress._panel())
    shown = plain.file.getvalue()  # type: ignore[attr-defined]
    assert "1 of 4 done, 1 running, 1 failed" in shown
    assert "left" in shown
    assert "rs2 0.6->0.4 seed 2" in shown
    assert "accuracy 0.750" in shown
    assert "fastest trial so far: plain_kd seed 1, 2.00 ref s" in shown


def test_a_resumed_trial_is_told_from_a_new_one(jobs: list[Job]) -> None:
    console = Console(file=io.StringIO(), width=120)
    progress = progress_on(console)
    progress.started(jobs[0])
    progress.started(jobs[1], resumes=True)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(" plain_kd")[0] for line in lines[1:]] == ["started", "resumed"]


def test_slots_of_a_cluster_are_those_of_its_machines_together() -> None:
    slots = slots_of_machines([(8, 0), (3, 0), (1, 0)], "cpu", 2, ResourcesConfig(), where="cluster")
    assert (slots.trials_at_once, slots.num_machines) == (5, 2)
    assert slots.num_cotenants == 2  # three trials on one machine
    assert slots.share_of_device == pytest.approx(2 / 5)
    assert slots.widened().cpus_per_trial == 4
    with_gpus = slots_of_machines([(8, 2.0), (2, 1.0)], "cuda", 1, ResourcesConfig(gpus_per_trial=0.5), where="cluster")
    assert (with_gpus.trials_at_once, with_gpus.num_machines, with_gpus.num_cotenants) == (6, 2, 1)
    with pytest.raises(UserError, match=r"threads: expected at most 8, the cores of cluster, got 9"):
        slots_of_machines([(8, 0), (3, 0)], "cpu", 9, ResourcesConfig(), where="cluster")


def test_slots_follow_threads_and_what_the_file_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)))
    assert slots_for("cpu", 2, ResourcesConfig()).trials_at_once == 4
    one = slots_for("cpu", 2, ResourcesConfig(trials_at_once=1))
    assert (one.trials_at_once, one.num_cotenants) == (1, 0)
    with pytest.raises(Exception, match="threads: expected at most 8, the cores of this machine, got 9"):
        slots_for("cpu", 9, ResourcesConfig())
    with pytest.raises(
        Exception, match=r"resources.gpus_per_trial: expected at most 0, the GPUs of this machine, got 1"
    ):
        slots_for("cpu", 1, ResourcesConfig(gpus_per_trial=1))


def test_a_trial_that_runs_again_counts_once(directory: SweepDirectory, jobs: list[Job]) -> None:
    progress = progress_on(Console(file=io.StringIO()))
    folder = directory.trial(jobs[0].trial_id)
    for status in (Status.CAPPED, Status.BUDGET):
        progress.started(jobs[0])
        assert progress.num_done == 0
        train_on_paper(directory, jobs[0], [0.5], status)
        progress.ended(jobs[0], folder)
        assert progress.num_done == 1
