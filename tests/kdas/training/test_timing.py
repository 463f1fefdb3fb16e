"""Timing in rounds, on a clock that only the work moves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from kdas.clock import Work
from kdas.training import timing
from kdas.training.timing import median_of, timed
from kdas.training.trial import Trial


class Machine:
    """A machine on which work takes as long as it says; others have its processor for a share of that time."""

    def __init__(self) -> None:
        self.now_s = self.processor_s = 0.0
        self.done: list[str] = []

    def work(self, name: str, seconds: float, others: float = 0.0) -> None:
        self.done.append(name)
        self.now_s += seconds
        self.processor_s += seconds * (1 - others)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    clocks = SimpleNamespace(perf_counter=lambda: machine.now_s, process_time=lambda: machine.processor_s)
    monkeypatch.setattr(timing, "time", clocks)
    return machine


@pytest.fixture
def time_jobs(
    monkeypatch: pytest.MonkeyPatch, trial_of: Callable[..., Trial]
) -> Callable[[dict[tuple[Work, int], Callable[[], object]]], timing.Timed]:
    def run(works: dict[tuple[Work, int], Callable[[], object]]) -> timing.Timed:
        jobs = {key: lambda work=work: work for key, work in works.items()}
        monkeypatch.setattr(timing, "_jobs", lambda *arguments: jobs)
        trial = trial_of()
        return timed(trial.config, trial.distiller())

    return run


def test_kinds_take_turns_in_a_round_in_the_order_of_a_trial(
    machine: Machine, time_jobs: Callable[..., timing.Timed]
) -> None:
    found = time_jobs(
        {(Work.STEP, 8): lambda: machine.work("step", 1e-3), (Work.TEACHER, 8): lambda: machine.work("ask", 2e-3)}
    )
    # Three runs warm up in the first round and one later, then five are timed, in turn.
    turns = ["ask", "step"] * 5
    assert machine.done == ["ask"] * 3 + ["step"] * 3 + turns + 4 * (["ask", "step", *turns])
    assert len(found.rounds) == 5
    assert found.rounds[0][Work.STEP][0] == (8, pytest.approx(1e-3))
    assert found.rounds[4][Work.TEACHER][0] == (8, pytest.approx(2e-3))


def test_slow_work_is_run_once_to_warm_up_and_once_in_each_round(
    machine: Machine, time_jobs: Callable[..., timing.Timed]
) -> None:
    time_jobs({(Work.STEP, 8): lambda: machine.work("step", 3.0)})
    assert machine.done == ["step"] * 6


def test_a_price_is_the_median_over_rounds_of_the_median_in_a_round(
    machine: Machine, time_jobs: Callable[..., timing.Timed]
) -> None:
    # After the warm-up; one run in each later round is disturbed.
    times = iter([0.001] * 3 + [0.002] * 5 + 4 * [0.001, 0.001, 0.003, 0.003, 0.003, 0.9])
    found = time_jobs({(Work.STEP, 8): lambda: machine.work("step", next(times))})
    assert [round(each[Work.STEP][0][1], 6) for each in found.rounds] == [0.002] + [0.003] * 4
    assert median_of(found.rounds)[Work.STEP] == ((8, pytest.approx(0.003)),)


def test_waiting_for_the_processor_is_noticed_but_not_while_other_processes_read_images(
    machine: Machine, time_jobs: Callable[..., timing.Timed]
) -> None:
    def works(others: float) -> dict[tuple[Work, int], Any]:
        return {
            (Work.STEP, 8): lambda: machine.work("step", 1e-3, others),
            (Work.AUGMENT, 8): lambda: machine.work("fetch", 1e-3, 0.9),
        }

    assert time_jobs(works(0.0)).waited == pytest.approx(0, abs=1e-9)
    assert time_jobs(works(0.3)).waited == pytest.approx(0.3)
