"""Measuring prices. These tests time real work, but check only that prices are positive, and what is done with them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdas.clock import Calibration, PriceTable, Work
from kdas.errors import UnreadableError
from kdas.files.prices import calibration_of, read_calibration, write_calibration
from kdas.training import calibrate, timing
from kdas.training.calibrate import calibration_for, doubts, measured_calibration, subject
from kdas.training.timing import Timed, median_of
from kdas.training.trial import Trial

KINDS = (Work.AUGMENT, Work.TEACHER, Work.SCORE, Work.WEIGH, Work.STEP)
ROUND: PriceTable = dict.fromkeys(KINDS, ((8, 0.1), (16, 0.2)))


def rounds_of(*step_s: float) -> tuple[PriceTable, ...]:
    """Rounds that differ in what a step costs."""
    return tuple({**ROUND, Work.STEP: ((8, each / 2), (16, each))} for each in step_s)


STEADY, UNSTEADY = rounds_of(0.2, 0.2, 0.2, 0.2, 0.2), rounds_of(0.2, 0.2, 0.2, 0.2, 0.4)


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "WARM_UP_RUNS", 1)
    monkeypatch.setattr(timing, "TIMED_RUNS", 2)
    monkeypatch.setattr(calibrate, "PAUSE_S", 0.0)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Timed]]:
    """Replaces the timing by these results, one for each attempt; returns those that are left."""

    def give(*results: Timed) -> list[Timed]:
        left = list(results)
        monkeypatch.setattr(calibrate, "timed", lambda config, distiller: left.pop(0))
        return left

    return give


Measured = Callable[..., Calibration]


@pytest.fixture
def measured(empty_cache: Path, trial_of: Callable[..., Trial]) -> Measured:
    def measure(*more: Any, again: bool = False) -> Calibration:
        trial = trial_of(batch_size=16)
        return (measured_calibration if again else calibration_for)(trial.config, trial.inputs, *more)

    return measure


def test_prices_are_positive_complete_kept_and_read_again(
    empty_cache: Path, trial_of: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "ATTEMPTS", 1)
    trial = trial_of(batch_size=8)
    measured = calibration_for(trial.config, trial.inputs)
    # A teacher's forward pass has one price, whoever pays it.
    assert set(measured.prices) == set(Work) - {Work.ASKED, Work.PROXY_SCORE, Work.PROXY_STEP}
    assert all(seconds > 0 for points in measured.prices.values() for _, seconds in points)
    assert [size for size, _ in measured.prices[Work.STEP]] == [4, 8]
    assert [size for size, _ in measured.prices[Work.SCORE]] == [4, 8, 16, 32]
    assert [size for size, _ in measured.prices[Work.EPOCH]] == [25, 100]
    assert measured.measured_on == subject(trial.config, trial.inputs)
    assert len(measured.rounds) == 5 and measured.prices == median_of(measured.rounds)
    assert 0 <= time.time() - measured.measured_at < 600
    (kept,) = (empty_cache / "calibrations").glob("*.json")
    assert read_calibration(kept) == measured


def test_kept_prices_are_used_and_damaged_ones_measured_again(
    empty_cache: Path, given: Callable[..., list[Timed]], measured: Measured
) -> None:
    left = given(Timed(STEADY, 0.0), Timed(rounds_of(*[0.3] * 5), 0.0), Timed(STEADY, 0.0))
    first = measured()
    assert measured() == first and len(left) == 2
    (kept,) = (empty_cache / "calibrations").glob("*.json")
    for change in ("{", kept.read_text(encoding="utf-8").replace(first.calibration_id, "another")):
        kept.write_text(change, encoding="utf-8")
        again = measured()
        assert read_calibration(kept) == again
    assert left == []


def test_a_change_to_anything_in_a_file_of_prices_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    calibration = calibration_of({"hardware": "some"}, median_of(UNSTEADY), UNSTEADY, 1e9, "load")
    write_calibration(path, calibration)
    assert read_calibration(path) == calibration
    for change in ({"rounds": STEADY}, {"measured_at": 2e9}, {"busy": ""}, {"prices": rounds_of(0.9)[0]}):
        write_calibration(path, replace(calibration, **change))
        assert read_calibration(path) is None, change


def test_prices_of_earlier_versions_are_not_used_for_a_new_sweep(
    empty_cache: Path, given: Callable[..., list[Timed]], measured: Measured
) -> None:
    given(Timed(STEADY, 0.0))
    first = measured()
    (kept,) = (empty_cache / "calibrations").glob("*.json")
    write_calibration(kept, calibration_of(first.measured_on, ROUND))
    given(Timed(STEADY, 0.0))
    assert len(measured().rounds) == 5


def test_unsteady_rounds_are_measured_again_until_they_agree(
    given: Callable[..., list[Timed]], measured: Measured
) -> None:
    lines: list[str] = []
    left = given(Timed(UNSTEADY, 0.0), Timed(STEADY, 0.0), Timed(STEADY, 0.0))
    calibration = measured(lines.append)
    assert calibration.rounds == STEADY and len(left) == 1
    assert doubts(calibration) == "" and calibration.spread == 0
    assert len(lines) == 2 and lines[1].endswith("between rounds, expected at most 3%. Measuring again.")


def test_the_steadiest_of_three_attempts_is_taken_with_a_warning(
    given: Callable[..., list[Timed]], measured: Measured
) -> None:
    lines: list[str] = []
    better = rounds_of(0.2, 0.2, 0.2, 0.2, 0.3)
    left = given(Timed(UNSTEADY, 0.0), Timed(better, 0.0), Timed(UNSTEADY, 0.0))
    calibration = measured(lines.append)
    assert calibration.rounds == better and left == []
    assert lines[-1].startswith("WARNING: Prices differ by ") and "between rounds" in lines[-1]


@pytest.mark.parametrize(
    ("waited", "neighbours", "load", "said"),
    [
        (0.12, (), 0.0, "other work had the processor for 12% of the time"),
        (0.0, ("digits_kd",), 0.0, "digits_kd trains on it"),
        (0.0, (), 999.0, "999.0 processes wanted "),
    ],
)
def test_a_busy_machine_is_noticed_warned_about_and_not_kept_for_later_sweeps(
    given: Callable[..., list[Timed]],
    measured: Measured,
    monkeypatch: pytest.MonkeyPatch,
    waited: float,
    neighbours: Sequence[str],
    load: float,
    said: str,
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    lines: list[str] = []
    left = given(*[Timed(STEADY, waited)] * 3, Timed(STEADY, 0.0))
    calibration = measured(lines.append, lambda: neighbours)
    assert said in calibration.busy and said in lines[-1] and lines[-1].startswith("WARNING: The machine was busy")
    assert measured(lines.append, lambda: neighbours) == calibration and len(left) == 1, "its own process keeps it"
    monkeypatch.setattr(calibrate, "_measured_here", set())
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    assert measured(lines.append).busy == "" and left == [], "another process measures again"


def test_an_idle_attempt_is_preferred_to_a_steadier_busy_one(
    given: Callable[..., list[Timed]], measured: Measured
) -> None:
    given(Timed(STEADY, 0.5), Timed(UNSTEADY, 0.0), Timed(STEADY, 0.5))
    assert measured().rounds == UNSTEADY


def test_prices_are_measured_again_when_asked(given: Callable[..., list[Timed]], measured: Measured) -> None:
    given(Timed(STEADY, 0.0), Timed(rounds_of(*[0.3] * 5), 0.0))
    measured()
    assert measured(again=True).price(Work.STEP, 16) == 0.3 == measured().price(Work.STEP, 16)


def test_prices_are_those_of_hardware_models_and_batch_size_not_of_sampler_or_seed(
    trial_of: Callable[..., Any],
) -> None:
    def measured_on(**changed: Any) -> dict[str, Any]:
        trial = trial_of(**changed)
        return subject(trial.config, trial.inputs)

    usual = measured_on()
    assert measured_on(sampler="kdas", seed=9, epochs=7, kd_weight=1.0) == usual
    assert measured_on(student="resnet14") != usual
    assert measured_on(batch_size=32) != usual
    assert measured_on(threads=2) != usual


def test_a_calibration_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_calibration(tmp_path / "none.json") is None


def test_prices_that_the_system_cannot_read_are_not_taken_for_missing(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"cannot be read: Is a directory\. Check its permissions and its disk"):
        read_calibration(tmp_path)
