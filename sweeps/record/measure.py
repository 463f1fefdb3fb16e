"""The terms by which a sweep is measured, such as target and budget: fixed once, then kept."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from kdas.files.cache import write_text
from kdas.records import MEASURE_KEYS, Measure, first_reached
from sweeps.record.directory import Recorded, SweepDirectory


def best_accuracy(rows: Sequence[Recorded]) -> float:
    """The highest accuracy of a trial on the split that decides; NaN does not count."""
    accuracies = [r.row.val_accuracy for r in rows if not math.isnan(r.row.val_accuracy)]
    return max(accuracies, default=math.nan)


def time_to_target(rows: Sequence[Recorded], target: float) -> float:
    """Reference seconds until the target is reached, inf if it never is."""
    return first_reached([r.row.cost_ref_s for r in rows], [r.row.val_accuracy for r in rows], target)


def write_measure(directory: SweepDirectory, measure: Measure) -> None:
    """Write the measure into the sweep directory."""
    write_text(directory.measure_file, json.dumps(measure.as_dict(), indent=1))


def read_measure(directory: SweepDirectory) -> Measure | None:
    """The measure of the sweep; None if plain distillation has not ended yet."""
    try:
        content = json.loads(directory.measure_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    fields = {key: name for name, key in MEASURE_KEYS.items()}
    given: dict[str, Any] = {
        fields.get(key, key): tuple(value) if isinstance(value, list) else value for key, value in content.items()
    }
    return Measure(**given)
