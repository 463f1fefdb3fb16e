"""`make calibrate`: prices measured again before a sweep has trials, and shown afterwards."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kdas.clock import Calibration, PriceTable, Work
from kdas.files.prices import read_calibration, write_calibration
from kdas.training import calibrate
from kdas.training.timing import Timed
from kdas.training.trial import Inputs
from sweeps.engine.prices import Prices
from sweeps.file.spec import SweepSpec
from sweeps.prepare import calibration as module
from sweeps.prepare.calibration import calibrate_sweep
from sweeps.prepare.environment import describe
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import CALIBRATION, TINY, identify_by, train_on_paper

ROUND: PriceTable = {work: ((32, 0.001), (64, 0.0021)) for work in Work if work is not Work.ASKED}
Calibrate = Callable[[], str]


@pytest.fixture
def run(
    spec: SweepSpec, directory: SweepDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Runs the command; returns what it prints. Measuring gives steady prices at once."""
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(calibrate, "timed", lambda config, distiller: Timed((ROUND,) * 5, 0.0))
    monkeypatch.setattr("os.getloadavg", lambda: (0.0, 0.0, 0.0))

    def calibrated() -> str:
        printed = io.StringIO()
        calibrate_sweep(spec, TINY, directory, Console(file=printed, width=160))
        return printed.getvalue()

    return calibrated


def test_prices_are_measured_kept_for_the_sweep_and_printed(run: Calibrate, tmp_path: Path) -> None:
    printed = run()
    assert "32: 1  64: 2.1" in printed and "epoch" in printed
    assert "5 rounds differ by 0.0% of a trial's cost (steady)" in printed and "measured 0 s ago (" in printed
    assert "The machine did nothing else." in printed
    (kept,) = (tmp_path / "cache" / "calibrations").glob("*.json")
    first = read_calibration(kept)
    run()
    again = read_calibration(kept)
    assert first is not None and again is not None and again.measured_at > first.measured_at, "measured again"


def test_a_sweep_that_has_begun_without_trials_loses_its_frozen_prices(
    run: Calibrate, directory: SweepDirectory
) -> None:
    Prices({"key": CALIBRATION}).freeze(directory)
    assert len(directory.price_files()) == 2
    run()
    assert not any(file.exists() for file in directory.price_files())


def test_a_sweep_with_trials_keeps_its_prices_and_shows_them(
    run: Calibrate, spec: SweepSpec, directory: SweepDirectory, inputs: Inputs
) -> None:
    train_on_paper(directory, plan_of(spec, identify_by(inputs)).baselines[0], [0.5])
    printed = io.StringIO()
    write_calibration(directory.calibration_file, calibrate.calibration_of({}, CALIBRATION.prices))
    before = directory.calibration_file.read_bytes()
    calibrate_sweep(spec, TINY, directory, Console(file=printed, width=160))
    assert "tiny: has trials, and their costs are in these prices, so they stay." in printed.getvalue()
    assert "measured by an earlier version" in printed.getvalue()
    assert directory.calibration_file.read_bytes() == before


def test_facts_of_a_sweep_tell_the_worst_of_its_prices(spec: SweepSpec, inputs: Inputs) -> None:
    slower = {**ROUND, Work.STEP: ((32, 0.002), (64, 0.0042))}
    steady = Calibration("a", {}, ROUND, (ROUND, ROUND), 1_700_000_000.0)
    busy = Calibration("b", {}, ROUND, (ROUND, slower), 1_800_000_000.0, "other work")
    facts = describe(spec.methods.recipe, inputs, Prices({"a": steady, "b": busy}))
    assert float(facts["price_spread"]) == busy.spread > 0.05
    assert facts["prices_measured_at"] == "2023-11-14T22:13:20+00:00" and facts["prices_busy"] == "other work"
    assert "price_spread" not in describe(spec.methods.recipe, inputs, Prices({"a": CALIBRATION}))


def test_no_sweep_starts_while_its_prices_are_replaced(
    run: Calibrate, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    Prices({"key": CALIBRATION}).freeze(directory)
    holders: list[str] = []
    measured = module.measured_calibration

    def watched(*args: Any, **options: Any) -> Calibration:
        holders.append(directory.holder())
        return measured(*args, **options)

    monkeypatch.setattr(module, "measured_calibration", watched)
    run()
    assert holders and all(holders)
    assert not directory.holder()
