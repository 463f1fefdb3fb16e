"""The terms by which a sweep is measured, such as target and budget: fixed once, then kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from kdas.files.record import DamagedError, read_record, write_record
from kdas.records import MEASURE_KEYS, Measure, first_reached
from sweeps.record.directory import SweepDirectory
from sweeps.record.trial import Recorded, TrialFolder

# What every version has written.
_KEYS = tuple(MEASURE_KEYS.get(field.name, field.name) for field in fields(Measure) if field.default is MISSING)


def best_accuracy(rows: Sequence[Recorded]) -> float:
    """The highest accuracy of a trial on the split that decides; NaN does not count."""
    accuracies = [r.row.val_accuracy for r in rows if not math.isnan(r.row.val_accuracy)]
    return max(accuracies, default=math.nan)


def time_to_target(rows: Sequence[Recorded], target: float) -> float:
    """Reference seconds until the target is reached, inf if it never is."""
    return first_reached([r.row.cost_ref_s for r in rows], [r.row.val_accuracy for r in rows], target)


def has_certain_time(trial: TrialFolder, measure: Measure) -> bool:
    """Whether a trial's result is its time to the target, and that is reached: what follows changes nothing.

    Of a trial whose curve is damaged nothing is certain.
    """
    try:
        rows = trial.rows()
    except DamagedError:
        return False
    return measure.objective == "tta" and math.isfinite(time_to_target(rows, measure.target))


def write_measure(directory: SweepDirectory, measure: Measure) -> None:
    """Write the measure into the sweep directory."""
    write_record(directory.measure_file, measure.as_dict())


def known_measure(directory: SweepDirectory) -> Measure | None:
    """The measure of the sweep; None also if it is damaged, because the same trials fix it again."""
    try:
        return read_measure(directory)
    except DamagedError:
        return None


def has_finished(measure: Measure | None) -> bool:
    """Whether the sweep has come to its end and has not been started since."""
    return measure is not None and measure.num_ended_trials > 0


def read_measure(directory: SweepDirectory) -> Measure | None:
    """The measure of the sweep; None if plain distillation has not ended yet. Raises: DamagedError."""
    try:
        content = read_record(directory.measure_file, *_KEYS, remedy="Run the sweep again to rebuild it.")
    except FileNotFoundError:
        return None
    names = {key: name for name, key in MEASURE_KEYS.items()}
    given: dict[str, Any] = {
        names.get(key, key): tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    return Measure(**given)
