"""What `make status` reads from a directory while another process writes to it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from kdas.files.record import write_record
from kdas.records import Measure, Status
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.control import change_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.status import print_status, read_status
from tests.sweeps.conftest import curve_row, train_on_paper

MEASURE = Measure("tiny", 0.9, "given", 10.0, "plain_kd", "validation", "by-hand", "digits", [1, 2], 10)


@pytest.fixture
def jobs(spec: SweepSpec) -> list[Job]:
    """Plain distillation, then a searched configuration, on two seeds each."""
    searched = plan_of(spec).searched({"start_rate": 0.7, "sampling_period": 3})
    return [*plan_of(spec).baselines[:2], *searched]


def shown(directory: SweepDirectory) -> str:
    console = Console(file=io.StringIO(), width=140)
    print_status(directory, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_trials_are_counted_by_how_they_ended(directory: SweepDirectory, jobs: list[Job]) -> None:
    write_measure(directory, MEASURE)
    train_on_paper(directory, jobs[0], [0.5, 0.95])
    train_on_paper(directory, jobs[1], [0.5, 0.5], Status.CRASHED)
    train_on_paper(directory, jobs[2], [0.5, 0.5, 0.5], Status.CAPPED)
    status = read_status(directory)
    assert status.counts == {Status.BUDGET: 1, Status.CRASHED: 1, Status.CAPPED: 1}
    assert status.under_way == []
    # A trial that missed the target counts as the full budget; a crashed one does not count.
    found = [(each.mean_s, each.num_seeds, each.num_reached) for each in status.fastest]
    assert found == [(2.0, 1, 1), (10.0, 1, 0)]
    assert {each.trial_id for each in status.fastest} <= {folder.path.name for folder in directory.trials()}
    assert all(each.trial_id in shown(directory) for each in status.fastest)


def test_a_trial_under_way_shows_what_it_last_said(directory: SweepDirectory, jobs: list[Job]) -> None:
    write_measure(directory, MEASURE)
    folder = directory.trial(jobs[0].trial_id)
    folder.begin(jobs[0])
    folder.append(curve_row(jobs[0], 4, 0.6), [])
    now = folder.rows()[-1].recorded_at
    (fresh,) = read_status(directory, now + 5).under_way
    assert (fresh.age_s, fresh.is_stale) == (pytest.approx(5), False)
    assert fresh.last is not None
    assert fresh.last.row.cost_ref_s == 4.0
    (silent,) = read_status(directory, now + 3600).under_way
    assert silent.is_stale
    console = Console(file=io.StringIO(), width=140)
    print_status(directory, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "1 trials of 10 planned: 1 interrupted" in shown
    assert "plain_kd (every sample) seed 1" in shown
    assert "40%" in shown
    assert "0.6000" in shown


def test_who_runs_the_sweep_is_named_while_it_runs(directory: SweepDirectory) -> None:
    assert read_status(directory).holder == ""
    with directory.locked():
        holder = SweepDirectory(directory.path).holder()
    assert "is running this sweep" in holder
    assert read_status(directory).holder == ""


def test_confirmation_does_not_mix_with_the_search(directory: SweepDirectory, jobs: list[Job]) -> None:
    write_measure(directory, MEASURE)
    train_on_paper(directory, jobs[0], [0.5, 0.95])
    assert "on the seeds of the search" in shown(directory)
    again = jobs[0].config.model_copy(update={"seed": 1001})
    train_on_paper(directory, replace(jobs[0], phase="confirm", config=again), [0.5, 0.5, 0.95])
    (fastest,) = read_status(directory).fastest
    assert (fastest.mean_s, fastest.num_seeds, fastest.num_reached) == (3.0, 1, 1)
    assert "fastest so far, on fresh seeds" in shown(directory)


def test_a_hit_at_the_very_budget_is_a_hit(directory: SweepDirectory, jobs: list[Job]) -> None:
    write_measure(directory, MEASURE)
    train_on_paper(directory, jobs[0], [0.5] * 9 + [0.95])
    console = Console(file=io.StringIO(), width=140)
    print_status(directory, console)
    assert ">" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_finished_sweep_says_so_with_its_answer(directory: SweepDirectory, jobs: list[Job]) -> None:
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5, 0.95])
    directory.answer_file.write_text('{"verdict": "plain_kd reached 90% first."}', encoding="utf-8")
    write_measure(directory, MEASURE)
    before = shown(directory)
    assert "not running" in before and "fastest so far" in before and "answer" not in before
    write_measure(directory, replace(MEASURE, num_planned_trials=2, num_ended_trials=2))
    text = shown(directory)
    assert "  finished\n" in text and "answer: plain_kd reached 90% first." in text
    assert "not running" not in text and "so far" not in text
    directory.answer_file.write_text("{", encoding="utf-8")
    assert "answer" not in shown(directory) and "finished" in shown(directory)


def test_an_interrupted_trial_is_not_shown_as_running(directory: SweepDirectory, jobs: list[Job]) -> None:
    directory.trial(jobs[0].trial_id).begin(jobs[0])
    heading = r"\n +{} +of budget"
    assert "1 interrupted" in shown(directory) and re.search(heading.format("interrupted"), shown(directory))
    with directory.locked():
        assert "1 running" in shown(directory) and re.search(heading.format("running"), shown(directory))


def test_a_search_that_is_ended_by_hand_is_not_counted_against_the_whole_plan(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    write_measure(directory, MEASURE)
    train_on_paper(directory, jobs[0], [0.5, 0.95])
    with directory.locked():
        assert "1 trials of 10 planned" in shown(directory)
        change_requests(directory, lambda asked: replace(asked, finishes=True))
        assert "planned" not in shown(directory) and "left at the pace" not in shown(directory)


def test_looking_leaves_nothing_behind(directory: SweepDirectory) -> None:
    nowhere = SweepDirectory(directory.path.parent / "nowhere")
    assert nowhere.holder() == ""
    assert not nowhere.path.exists()


def test_what_was_prepared_the_time_left_and_how_to_stop_a_trial_are_shown(
    directory: SweepDirectory, jobs: list[Job]
) -> None:
    write_measure(directory, MEASURE)
    facts = {
        "teacher": "resnet8",
        "teacher_accuracy": "0.91",
        "prices_measured_at": "2026-01-01",
        "price_spread": "0.02",
    }
    write_record(directory.environment_file, facts)
    write_record(directory.spent_file, {"wall_s": 30.0, "device_s": 30.0})
    for job in jobs[:2]:
        train_on_paper(directory, job, [0.5, 0.95])
    directory.trial(jobs[2].trial_id).begin(jobs[2])
    assert "left at the pace" not in shown(directory) and "make stop" not in shown(directory)
    with directory.locked():
        text = shown(directory)
    assert "teacher resnet8, accuracy 0.9100" in text and "prices of 2026-01-01, spread 2.0%" in text
    # Eight of ten trials are left, and two took 30 seconds.
    assert "about 2 min 00 s left at the pace so far" in text
    assert f"to stop it: make stop NAME=tiny TRIAL={jobs[2].trial_id}" in text
    assert text.count("make stop") == 1


def test_the_bank_is_shown_only_by_a_sweep_that_fills_it_now(directory: SweepDirectory) -> None:
    write_record(directory.bank_file, {"num_done": 81, "num_views": 810})
    assert "teacher bank" not in shown(directory)  # its process was killed
    with directory.locked():
        assert "filling the teacher bank: 10% of 810 views" in shown(directory)
        directory.bank_file.write_text("{", encoding="utf-8")
        assert "teacher bank" not in shown(directory)
