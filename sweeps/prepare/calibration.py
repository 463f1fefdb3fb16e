"""`make calibrate`: measures the prices of a sweep without trials again, and shows those of a sweep that has some."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdas.clock import Calibration
from kdas.command.progress import readable_s
from kdas.errors import UserError
from kdas.files.cache import check_cache
from kdas.training.calibrate import STEADY, measured_calibration
from kdas.training.trial import untrained_inputs
from sweeps.file.spec import SweepSpec
from sweeps.prepare.inputs import prices_of
from sweeps.prepare.own_copies import with_own_copies
from sweeps.prepare.own_parts import check_own_parts_of
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory


def calibrate_sweep(spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console) -> None:
    """Measure the prices of a sweep without trials; print them, or those of a sweep with trials.

    Raises: UserError: if the sweep runs.
    """
    with ExitStack() as until_end:
        # A sweep that started meanwhile would lose its prices. Without its folder there are none to lose.
        if directory.path.is_dir():
            until_end.enter_context(directory.locked())
        _calibrate(spec, source, directory, console)


def _calibrate(spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console) -> None:
    if next(directory.trials(), None) is not None:
        for calibration in directory.calibrations().values():
            show(calibration, console)
        console.print(
            f"{directory.path}: has trials, and their costs are in these prices, so they stay. For new ones, run a copy"
            " of the sweep file.",
            highlight=False,
            soft_wrap=True,
        )
        return
    check_cache()
    check_own_parts_of(spec, source)
    plan = plan_of(with_own_copies(spec, directory))
    try:
        inputs = untrained_inputs(plan.methods.recipe, plan.methods.others)
    except UserError as error:
        raise error.of(source) from error
    for file in directory.price_files():
        file.unlink(missing_ok=True)
    for calibration in prices_of(plan, inputs, directory, console, measured_calibration).calibrations.values():
        show(calibration, console)


def show(calibration: Calibration, console: Console) -> None:
    """Print prices, their spread and age, and what else the machine did while they were measured."""
    table = Table("work", "milliseconds at each batch size", box=None, padding=(0, 2, 0, 0))
    for work, points in calibration.prices.items():
        table.add_row(work.value, "  ".join(f"{size}: {1e3 * seconds:.4g}" for size, seconds in points))
    console.print(table)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    say(f"calibration {calibration.calibration_id}, {_age(calibration)}")
    if calibration.rounds:
        verdict = "steady" if calibration.spread <= STEADY else f"unsteady, expected at most {STEADY:.0%}"
        say(f"{len(calibration.rounds)} rounds differ by {calibration.spread:.1%} of a trial's cost ({verdict})")
        say(f"The machine was busy: {calibration.busy}." if calibration.busy else "The machine did nothing else.")


def _age(calibration: Calibration) -> str:
    if not calibration.rounds:
        return "measured by an earlier version, which recorded neither time nor spread"
    when = datetime.fromtimestamp(calibration.measured_at, UTC).isoformat(" ", "minutes")
    return f"measured {readable_s(max(0.0, time.time() - calibration.measured_at))} ago ({when})"
