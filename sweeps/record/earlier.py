"""Checks trials of earlier versions, which did not record the extent of their files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdas.files.record import DamagedError, read_record
from kdas.records import MEASURE_KEYS, CurveRow, Status
from sweeps.record.paths import MEASURE


def reaches_its_end(rows: Sequence[CurveRow], status: Status, config: Mapping[str, Any], folder: Path) -> bool:
    """Whether the curve of a complete trial reaches the end of its schedule or budget, or its divergence.

    Args: folder: of the trial, in the directory of its sweep.
    """
    if not rows:
        return False
    last = rows[-1]
    if status is Status.DIVERGED:
        return not math.isfinite(last.train_loss)
    return last.epoch >= config.get("epochs", 0) or last.cost_ref_s >= (1 - 1e-9) * _budget_ref_s(folder)


def _budget_ref_s(folder: Path) -> float:
    """Budget of a trial in this sweep, in reference seconds; 0 if it is unknown."""
    try:
        measure = read_record(folder.parents[2] / MEASURE, remedy="")
    except (FileNotFoundError, DamagedError):
        return 0.0
    return float(measure.get(MEASURE_KEYS["budget_ref_s"], 0.0))
