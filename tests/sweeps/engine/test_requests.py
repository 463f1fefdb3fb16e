"""What users ask of a running sweep, with curves written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.record.measure import ByHand, load_by_hand
from kdas.records import Status, is_searched
from kdas.training.trial import Inputs
from sweeps.engine.agenda import Agenda
from sweeps.file.spec import SweepSpec
from sweeps.record.control import Requests, change_requests, end_pause, read_requests, taken_up
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from tests.sweeps.conftest import curve_row, train_on_paper
from tests.sweeps.engine.test_agenda import agenda_of, work_off


def changed(spec: SweepSpec, **changes: object) -> SweepSpec:
    return SweepSpec.model_validate({**spec.model_dump(), **changes})


def past_the_baselines(agenda: Agenda, directory: SweepDirectory) -> list[Job]:
    """Two running trials of the search, after all baselines have ended."""
    running: list[Job] = []
    while len(running) < 2:
        job = agenda.next_job()
        assert job is not None
        if is_searched(job.method):
            running.append(job)
        else:
            train_on_paper(directory, job, [0.3, 0.9, 0.9])
            agenda.ended(job)
    return running


def end(agenda: Agenda, directory: SweepDirectory, job: Job, status: Status, accuracies: list[float]) -> None:
    train_on_paper(directory, job, accuracies, status)
    agenda.ended(job)


def test_no_trial_starts_during_a_pause_and_those_under_way_run_on(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    first, second = agenda.next_job(), agenda.next_job()
    assert first is not None and second is not None
    assert agenda.heed(Requests(is_paused=True)) == ["Paused, as you asked: no trial starts."]
    assert agenda.next_job() is None
    assert agenda.evaluated(first, 1.0, 0.3) is None
    for job in (first, second):
        end(agenda, directory, job, Status.BUDGET, [0.3, 0.9, 0.9])
        assert agenda.next_job() is None and not agenda.is_finished
    assert agenda.heed(Requests()) == ["No longer paused."]
    assert len(work_off(agenda, directory)) == 2 * (3 + 2) - 2
    assert agenda.is_finished


def test_a_paused_sweep_with_nothing_left_to_run_ends(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    confirmed = changed(spec, confirm={"top": 1, "seeds": [101]})
    agenda = agenda_of(confirmed, inputs, directory)
    last = [job for job in work_off(agenda, directory, at_once=1, stop_after=2 * 5 + 4) if job.phase == "confirm"][-1]
    agenda.heed(Requests(is_paused=True))
    assert not agenda.is_finished
    end(agenda, directory, last, Status.BUDGET, [0.3, 0.9, 0.9])
    assert agenda.next_job() is None
    assert agenda.is_finished


def test_a_stopped_trial_ends_at_its_next_evaluation_and_its_configuration_cannot_win(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    confirmed = changed(spec, confirm={"top": 2, "seeds": [101]}, known_points=[])
    agenda = agenda_of(confirmed, inputs, directory)
    stopped, other = past_the_baselines(agenda, directory)
    assert agenda.evaluated(stopped, 1.0, 0.3) is None
    (said,) = agenda.heed(Requests(stopped=(stopped.trial_id,)))
    assert said == f"{stopped.trial_id} stops at its next evaluation, as you asked."
    assert agenda.evaluated(other, 1.0, 0.3) is None
    assert agenda.evaluated(stopped, 2.0, 0.4) is Status.STOPPED_EARLY
    end(agenda, directory, stopped, Status.STOPPED_EARLY, [0.3, 0.4])
    end(agenda, directory, other, Status.BUDGET, [0.3, 0.9, 0.9])
    work_off(agenda, directory)
    assert agenda.is_finished
    finalists = {f.description["config_id"] for f in directory.trials() if f.description["phase"] == "confirm"}
    assert stopped.config_id not in finalists and len(finalists) == 3 + 1
    again = agenda_of(confirmed, inputs, directory)
    assert not again.fill() and again.is_finished


def test_a_stop_asked_before_a_kill_takes_effect_at_the_next_start_without_training(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    killed = agenda_of(spec, inputs, directory)
    job, _ = past_the_baselines(killed, directory)
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    folder.append(curve_row(job, 1, 0.3), [["step", 64, 1]])
    change_requests(directory, lambda asked: replace(asked, stopped=(job.trial_id,)))
    assert not end_pause(directory)
    agenda = agenda_of(spec, inputs, directory)
    (said,) = agenda.heed(taken_up(directory, spec.num_configurations))
    other = f"{job.config_id}-s2"
    assert said == (
        f"{job.trial_id} is stopped, as you asked. Its configuration can no longer win, so these do not start: {other}."
    )
    assert folder.status is Status.STOPPED_EARLY and len(folder.rows()) == 1
    assert not {job.trial_id, other} & {each.trial_id for each in work_off(agenda, directory)}
    assert agenda.is_finished
    assert load_by_hand(directory.path) == ByHand(0, (job.trial_id,))
    # What has been done applies no longer, and is kept for the report.
    for _ in range(2):
        end_pause(directory)
        assert read_requests(directory) == Requests(were_stopped=(job.trial_id,))
        assert load_by_hand(directory.path) == ByHand(0, (job.trial_id,))


@pytest.mark.parametrize("has_reached", [False, True])
def test_seeds_of_a_stopped_configuration_that_have_not_begun_do_not_start_unless_it_can_still_win(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, has_reached: bool
) -> None:
    seeds = changed(spec, seeds=4, target=0.8, known_points=[])
    agenda = agenda_of(seeds, inputs, directory)
    first, second = past_the_baselines(agenda, directory)
    for job in (first, second):
        directory.trial(job.trial_id).begin(job)
    directory.trial(first.trial_id).append(curve_row(first, 1, 0.9 if has_reached else 0.3), [["step", 64, 1]])
    asked = Requests(stopped=(first.trial_id,))
    (said,) = agenda.heed(asked)
    others = [f"{first.config_id}-s{seed}" for seed in (3, 4)]
    why = "Its configuration can no longer win, so these do not start"
    told = "" if has_reached else f" {why}: {', '.join(others)}."
    assert said == f"{first.trial_id} stops at its next evaluation, as you asked.{told}"
    assert agenda.evaluated(first, 2.0, 0.3) is Status.STOPPED_EARLY
    assert agenda.evaluated(second, 2.0, 0.3) is None  # it is under way
    directory.trial(first.trial_id).end(Status.STOPPED_EARLY)
    agenda.ended(first)
    end(agenda, directory, second, Status.BUDGET, [0.3, 0.9, 0.9])
    started = {job.trial_id for job in work_off(agenda, directory)}
    assert started & set(others) == (set(others) if has_reached else set())
    assert agenda.is_finished
    # Nor do seeds that are added later.
    more = agenda_of(changed(seeds, seeds=5), inputs, directory)
    more.heed(Requests(were_stopped=(first.trial_id,)))
    added = {job.trial_id for job in work_off(more, directory)}
    assert (f"{first.config_id}-s5" in added) is has_reached
    assert more.is_finished


def test_a_trial_whose_curve_is_damaged_can_be_stopped(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(changed(spec, known_points=[]), inputs, directory)
    job, _ = past_the_baselines(agenda, directory)
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    (folder.path / "curve.jsonl").write_text('{"row": 1}\n{"row": 2}\n', encoding="utf-8")
    (said,) = agenda.heed(Requests(stopped=(job.trial_id,)))
    assert said == f"{job.trial_id} stops at its next evaluation, as you asked."


@pytest.mark.parametrize("phase", ["baseline", "confirm"])
def test_baselines_and_confirmation_runs_are_never_stopped(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, phase: str
) -> None:
    agenda = agenda_of(changed(spec, confirm={"top": 1, "seeds": [101]}), inputs, directory)
    if phase == "confirm":
        work_off(agenda, directory, at_once=1, stop_after=2 * 5 + 1)
    job = agenda.next_job()
    assert job is not None
    agenda.heed(Requests(stopped=(job.trial_id,)))
    assert agenda.evaluated(job, 1.0, 0.3) is None


@pytest.mark.parametrize("has_reached", [False, True])
def test_a_capped_trial_runs_again_if_what_had_beaten_it_is_stopped_before_the_target(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, has_reached: bool
) -> None:
    confirm = {"top": 1, "seeds": [101]}
    capping = changed(spec, scheduler="capping", target=0.8, known_points=[], confirm=confirm)
    agenda = agenda_of(capping, inputs, directory)
    first, second = past_the_baselines(agenda, directory)
    assert first.config_id == second.config_id
    assert agenda.evaluated(first, 1.0, 0.9) is None
    end(agenda, directory, first, Status.BUDGET, [0.9, 0.9])
    assert agenda.evaluated(second, 1.0, 0.9 if has_reached else 0.1) is None
    # 1 and at most 10 reference seconds to the target; the slow one takes at least 10 and 2.
    slow, its_second = agenda.next_job(), agenda.next_job()
    assert slow is not None and its_second is not None and slow.config_id == its_second.config_id
    end(agenda, directory, slow, Status.BUDGET, [0.1, 0.1])
    assert agenda.evaluated(its_second, 1.0, 0.1) is (Status.CAPPED if has_reached else None)
    assert agenda.evaluated(its_second, 2.0, 0.1) is Status.CAPPED
    end(agenda, directory, its_second, Status.CAPPED, [0.1, 0.1])
    agenda.heed(Requests(stopped=(second.trial_id,)))
    assert agenda.evaluated(second, 2.0, 0.1) is Status.STOPPED_EARLY
    end(agenda, directory, second, Status.STOPPED_EARLY, [0.9 if has_reached else 0.1, 0.1])
    again = [job.trial_id for job in work_off(agenda, directory)]
    # A time that is certain beats it, stopped or not.
    assert (its_second.trial_id in again) is not has_reached
    assert agenda.is_finished


def test_a_finished_search_proposes_nothing_and_is_confirmed(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    long = changed(spec, budget={"configurations": 50}, confirm={"top": 1, "seeds": [101]}, known_points=[])
    agenda = agenda_of(long, inputs, directory)
    running = past_the_baselines(agenda, directory)
    (said,) = agenda.heed(Requests(finishes=True, finished_at=60))
    assert said.endswith("To continue it, raise budget.configurations above 60.")
    assert agenda.evaluated(running[0], 1.0, 0.3) is None
    for job in running:
        end(agenda, directory, job, Status.BUDGET, [0.3, 0.9, 0.9])
    rest = work_off(agenda, directory)
    assert {job.phase for job in rest} == {"confirm"}
    assert agenda.is_finished and agenda.lacks_configurations
    assert agenda.untried_methods == []


@pytest.mark.parametrize("when_spent", ["finish", "checkpoint"])
@pytest.mark.parametrize("is_killed", [True, False])
def test_trials_under_way_when_a_search_was_finished_run_to_their_end_after_a_kill(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory, when_spent: str, is_killed: bool
) -> None:
    budget = {"configurations": 50, "when_spent": when_spent}
    long = changed(spec, budget=budget, known_points=[], seeds=3)
    agenda = agenda_of(long, inputs, directory)
    running = past_the_baselines(agenda, directory)
    for job in running:
        directory.trial(job.trial_id).begin(job)
    agenda.heed(Requests(finishes=True, finished_at=50))
    if is_killed:
        agenda = agenda_of(long, inputs, directory)
        agenda.heed(Requests(finishes=True, finished_at=50))
    else:
        for job in running:
            agenda.lost(job)
    rest = {job.trial_id for job in work_off(agenda, directory)}
    # The third seed of their configuration had not begun.
    assert rest == (set() if when_spent == "checkpoint" else {job.trial_id for job in running})
    assert agenda.is_finished


def test_a_search_that_ended_before_its_first_trial_is_named(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(changed(spec, known_points=[]), inputs, directory)
    assert agenda.untried_methods == ["kdas_search"]
    agenda.heed(Requests(finishes=True, finished_at=2))
    assert not any(is_searched(job.method) for job in work_off(agenda, directory))
    assert agenda.is_finished and agenda.untried_methods == ["kdas_search"]


def test_a_finished_search_pauses_its_trials_if_a_spent_budget_would(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(changed(spec, budget={"when_spent": "checkpoint"}), inputs, directory)
    job, _ = past_the_baselines(agenda, directory)
    agenda.heed(Requests(finishes=True, finished_at=2))
    assert agenda.evaluated(job, 1.0, 0.3) is Status.RUNNING


def test_a_search_that_is_finished_among_the_baselines_still_has_all_of_them(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    agenda.heed(Requests(finishes=True, finished_at=2))
    assert {job.method for job in work_off(agenda, directory)} == {"plain_kd", "rs2", "kdas_paper"}
    assert agenda.is_finished


def ask_to_finish(directory: SweepDirectory) -> None:
    change_requests(directory, lambda asked: replace(asked, finishes=True, finished_at=None))


def test_a_request_to_finish_holds_until_more_configurations_are_asked_for(directory: SweepDirectory) -> None:
    ask_to_finish(directory)
    # A kill before the request is heard leaves it as it is.
    assert read_requests(directory) == Requests(finishes=True)
    assert load_by_hand(directory.path) == ByHand()
    for number in (8, 8, 5):
        assert taken_up(directory, number) == Requests(finishes=True, finished_at=8)
        assert load_by_hand(directory.path) == ByHand(ended_at=8)
    assert taken_up(directory, 9) == read_requests(directory) == Requests()
    assert load_by_hand(directory.path) == ByHand()


def test_a_trial_that_ended_before_it_could_be_stopped_was_not_stopped(
    spec: SweepSpec, inputs: Inputs, directory: SweepDirectory
) -> None:
    agenda = agenda_of(spec, inputs, directory)
    job, _ = past_the_baselines(agenda, directory)
    end(agenda, directory, job, Status.BUDGET, [0.3, 0.9])
    change_requests(directory, lambda asked: replace(asked, stopped=(job.trial_id,)))
    end_pause(directory)
    assert read_requests(directory) == Requests()


def test_a_pause_ends_with_the_process_that_was_paused(directory: SweepDirectory) -> None:
    assert not end_pause(directory)
    ask_to_finish(directory)
    change_requests(directory, lambda asked: replace(asked, is_paused=True))
    assert end_pause(directory) and not end_pause(directory)
    assert read_requests(directory) == Requests(finishes=True)
