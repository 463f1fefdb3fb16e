"""Measuring prices. These tests time real work, but check only that prices are positive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdas.clock import Work
from kdas.training import calibrate
from kdas.training.calibrate import (
    calibration_for,
    calibration_of,
    read_calibration,
    subject,
    write_calibration,
)


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "WARM_UP_RUNS", 1)
    monkeypatch.setattr(calibrate, "TIMED_RUNS", 3)


def test_prices_are_positive_complete_kept_and_read_again(empty_cache: Path, trial_of: Callable[..., Any]) -> None:
    trial = trial_of(batch_size=8)
    measured = calibration_for(trial.config, trial.distiller())
    # A teacher's forward pass has one price, whoever pays it.
    assert set(measured.prices) == set(Work) - {Work.ASKED}
    assert all(seconds > 0 for points in measured.prices.values() for _, seconds in points)
    assert [size for size, _ in measured.prices[Work.STEP]] == [4, 8]
    assert [size for size, _ in measured.prices[Work.SCORE]] == [4, 8, 16, 32]
    assert measured.measured_on == subject(trial.config, trial.distiller())

    (kept,) = (empty_cache / "calibrations").glob("*.json")
    dearer = {work: tuple((size, 2 * seconds) for size, seconds in pairs) for work, pairs in measured.prices.items()}
    other = calibration_of(measured.measured_on, dearer)
    write_calibration(kept, other)
    assert calibration_for(trial.config, trial.distiller()) == other

    for damaged in ("{", kept.read_text(encoding="utf-8").replace(other.calibration_id, measured.calibration_id)):
        kept.write_text(damaged, encoding="utf-8")
        again = calibration_for(trial.config, trial.distiller())
        assert again != other and read_calibration(kept) == again


def test_prices_are_those_of_hardware_models_and_batch_size_not_of_sampler_or_seed(
    trial_of: Callable[..., Any],
) -> None:
    def measured_on(**changed: Any) -> dict[str, Any]:
        trial = trial_of(**changed)
        return subject(trial.config, trial.distiller())

    usual = measured_on()
    assert measured_on(sampler="kdas", seed=9, epochs=7, kd_weight=1.0) == usual
    assert measured_on(student="resnet14") != usual
    assert measured_on(batch_size=32) != usual
    assert measured_on(threads=2) != usual


def test_a_calibration_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_calibration(tmp_path / "none.json") is None
