"""The expected cost of a sweep before it starts, and when the user is asked to agree to it."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kdas.errors import UserError
from kdas.teacher.obtain import UNTRAINED
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.trial import Inputs, Trial, load_inputs
from sweeps.engine.prices import Prices, price_key
from sweeps.engine.slots import Slots
from sweeps.file.spec import SweepSpec
from sweeps.prepare import preview
from sweeps.prepare.forecast import Estimate, Forecast, first_jobs, forecast
from sweeps.prepare.preview import agree, look_ahead, preview_sweep
from sweeps.prepare.resolved import cost_shares_of, plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.overhead import Overhead
from tests.sweeps.conftest import CALIBRATION, TINY

TWO_SLOTS = Slots(2, 1, 0.0)


def expected(spec: SweepSpec, inputs: Inputs, slots: Slots = TWO_SLOTS, overhead: Overhead | None = None) -> Forecast:
    prices = Prices({price_key(spec.methods.recipe): CALIBRATION})
    budget_ref_s = Trial(spec.methods.recipe, inputs).budget_ref_s(CALIBRATION)
    shares = cost_shares_of(spec.scheduler)
    return forecast(plan_of(spec), inputs, prices, budget_ref_s, slots, shares, overhead=overhead)


def changed(spec: SweepSpec, **keys: Any) -> SweepSpec:
    return SweepSpec.model_validate({**spec.model_dump(mode="json"), **keys})


def test_counts_are_those_of_the_plan(spec: SweepSpec, inputs: Inputs) -> None:
    confirmed = changed(spec, confirm={"top": 1, "seeds": 4}, budget={"configurations": 7})
    ahead = expected(confirmed, inputs)
    assert (ahead.num_baseline_trials, ahead.num_searched_trials, ahead.num_confirming_trials) == (6, 14, 16)
    assert ahead.num_trials == plan_of(confirmed).num_trials


def test_a_confirmation_until_decided_is_foreseen_with_its_least_and_its_most(spec: SweepSpec, inputs: Inputs) -> None:
    until = {"top": 1, "until": "decided", "least": 5, "most": 12}
    ahead = expected(changed(spec, confirm=until), inputs)
    assert (ahead.num_confirming_trials, ahead.num_added_trials) == (4 * 5, 4 * 7)
    least, most = (expected(changed(spec, confirm={"top": 1, "seeds": seeds}), inputs) for seeds in (5, 12))
    assert ahead.wall_s.low == pytest.approx(least.wall_s.low)
    assert ahead.wall_s.high == pytest.approx(most.wall_s.high)
    assert least.wall_s.middle < ahead.wall_s.middle < most.wall_s.middle
    assert ahead.disk_bytes == most.disk_bytes
    console = Console(file=io.StringIO(), width=120)
    preview.print_forecast(ahead, console)
    assert "30 to 58 trials: 6 of baselines, 4 searched, 20 to 48 to confirm" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_whole_sweep_costs_what_its_trials_cost(spec: SweepSpec, inputs: Inputs) -> None:
    """With two known points for two configurations, no part of the search has to be guessed."""
    points = [{"START_RATE": 0.6, "SAMPLING_PERIOD": [1, 3, 5, 10]}, {"START_RATE": 0.8, "SAMPLING_PERIOD": 1}]
    known = changed(spec, known_points=points, baselines={"plain_kd": "full"})
    num_samples = len(inputs.splits.train)
    costs = [estimated_cost_ref_s(job.config, num_samples, CALIBRATION) for job in plan_of(known).baselines]
    ahead = expected(known, inputs, Slots(1, 1, 0.0))
    assert ahead.wall_s.low > sum(costs), "the search and the evaluations come on top"
    assert ahead.wall_s == ahead.device_s, "one trial at a time holds the whole machine"


def test_an_estimate_counts_how_often_the_teacher_is_right_where_that_decides(spec: SweepSpec, inputs: Inputs) -> None:
    filters = changed(spec, baselines={"plain_kd": "full", "right_alone": "teacher_correct"})
    of_weak = expected(filters, inputs)
    untrained = replace(inputs, teacher=replace(inputs.teacher, weights_id=UNTRAINED))
    of_unknown = expected(filters, untrained)
    assert inputs.teacher_share_right(filters.methods.recipe) < 0.5, "a teacher of one epoch"
    assert of_weak.wall_s.middle < of_unknown.wall_s.middle
    assert expected(spec, inputs) == expected(spec, untrained), "the teacher decides nothing there"


def test_preview_tries_the_teacher_that_it_finds(
    spec: SweepSpec, directory: SweepDirectory, cache_of_the_tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(cache_of_the_tests))
    asked: list[str] = []
    monkeypatch.setattr(
        Inputs, "teacher_share_right", lambda found, recipe: asked.append(found.teacher.weights_id) or 0.5
    )
    filters = changed(spec, baselines={"plain_kd": "full", "right_alone": "teacher_correct"})
    weights_id = load_inputs(spec.methods.recipe).teacher.weights_id
    console = Console(quiet=True)
    assert not look_ahead(filters, TINY, directory, TWO_SLOTS, console).new_teachers
    assert {*asked} == {weights_id}


def test_an_estimate_includes_what_the_last_sweep_took_besides_training(spec: SweepSpec, inputs: Inputs) -> None:
    until = changed(spec, confirm={"top": 1, "until": "decided", "least": 5, "most": 12})
    training, whole = expected(until, inputs), expected(until, inputs, overhead=Overhead(20.0, 3.0))
    assert whole.has_overhead and not training.has_overhead
    least = whole.num_trials
    for end, num_trials in (("low", least), ("middle", least + 14), ("high", least + 28)):
        added = getattr(whole.wall_s, end) - getattr(training.wall_s, end)
        assert added == pytest.approx(20.0 + 3.0 * num_trials / 2)
        assert getattr(whole.device_s, end) - getattr(training.device_s, end) == pytest.approx(3.0 * num_trials / 2)
    for each, is_told in ((training, True), (whole, False)):
        console = Console(file=io.StringIO(), width=120)
        preview.print_forecast(each, console)
        assert ("come on top" in console.file.getvalue()) is is_told  # type: ignore[attr-defined]


def test_ends_of_an_estimate_are_in_order_and_early_stopping_widens_it(spec: SweepSpec, inputs: Inputs) -> None:
    whole, capped = expected(spec, inputs), expected(changed(spec, scheduler="capping"), inputs)
    for estimate in (whole.wall_s, capped.wall_s):
        assert estimate.low < estimate.middle < estimate.high
    assert capped.wall_s.low < whole.wall_s.low
    assert capped.wall_s.high == pytest.approx(whole.wall_s.high)


def test_a_device_hour_is_an_hour_of_a_whole_device(spec: SweepSpec, inputs: Inputs) -> None:
    on_cpu, on_gpus = expected(spec, inputs, Slots(4, 1, 0.0)), expected(spec, inputs, Slots(4, 1, 0.5))
    assert on_cpu.device_s.middle == pytest.approx(on_cpu.wall_s.middle), "four trials share the one machine"
    assert on_gpus.device_s.middle == pytest.approx(2 * on_gpus.wall_s.middle), "four trials share two GPUs"


def test_what_is_trained_first_is_references_and_known_points(spec: SweepSpec) -> None:
    methods = [(job.method, job.config.seed) for job in first_jobs(plan_of(spec))]
    assert methods[:2] == [("plain_kd", 1), ("plain_kd", 2)]
    assert set(methods[2:6]) == {(method, seed) for method in ("rs2", "kdas_paper") for seed in (1, 2)}


HOUR_S = 3600.0
AHEAD = Forecast(
    2, 4, 0, 0, Estimate(2 * HOUR_S, 4 * HOUR_S, 6 * HOUR_S), Estimate(1 * HOUR_S, 2 * HOUR_S, 3 * HOUR_S), 10**6, 10**9
)


@pytest.mark.parametrize(
    ("budget", "is_over"),
    [
        ({"wall_hours": 1.9}, "wall_hours"),
        ({"wall_hours": 2.1}, ""),
        ({"device_hours": 3.9}, "device_hours"),
        ({"device_hours": 4.1}, ""),
        ({}, ""),
    ],
)
def test_without_a_terminal_more_than_the_budget_is_refused_unless_agreed_to(
    spec: SweepSpec, monkeypatch: pytest.MonkeyPatch, budget: dict[str, float], is_over: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    bounded = changed(spec, budget={"configurations": 2, **budget})
    console = Console(quiet=True)
    agree(AHEAD, bounded.budget, Path("mine.yaml"), console, is_agreed=True)
    if not is_over:
        agree(AHEAD, bounded.budget, Path("mine.yaml"), console, is_agreed=False)
        return
    with pytest.raises(UserError, match=rf"mine\.yaml: budget\.{is_over}: .* but the estimate is about .* YES=1"):
        agree(AHEAD, bounded.budget, Path("mine.yaml"), console, is_agreed=False)


@pytest.mark.parametrize(("answer", "runs"), [("y", True), ("n", False), ("", False)])
def test_a_terminal_user_is_asked(spec: SweepSpec, monkeypatch: pytest.MonkeyPatch, answer: str, runs: bool) -> None:
    monkeypatch.setattr(preview.sys.stdin, "isatty", lambda: True, raising=False)
    console = Console(quiet=True)
    monkeypatch.setattr(console, "input", lambda prompt: answer)
    bounded = changed(spec, budget={"configurations": 2, "wall_hours": 1})
    if runs:
        agree(AHEAD, bounded.budget, Path("mine.yaml"), console, is_agreed=False)
        return
    with pytest.raises(UserError, match="not run"):
        agree(AHEAD, bounded.budget, Path("mine.yaml"), console, is_agreed=False)


def test_preview_trains_nothing_and_writes_no_sweep(
    spec: SweepSpec, directory: SweepDirectory, cache_of_the_tests: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(cache_of_the_tests))
    monkeypatch.setattr("kdas.teacher.obtain._trained", pytest.fail)
    console = Console(file=io.StringIO(), width=120)
    preview_sweep(spec, TINY, directory, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "10 trials: 6 of baselines, 4 searched, 0 to confirm" in shown
    assert "of wall time" in shown
    assert "of disk" in shown
    assert list(directory.path.iterdir()) == []
