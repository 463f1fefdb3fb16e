"""Files of calibrations. Each holds its own check: the id, which is a hash of everything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdas.clock import Calibration, PriceTable
from kdas.files.cache import content_id, write_text
from kdas.files.record import record_bytes


def calibration_of(
    measured_on: Mapping[str, Any],
    prices: PriceTable,
    rounds: tuple[PriceTable, ...] = (),
    measured_at: float = 0.0,
    busy: str = "",
) -> Calibration:
    """A calibration with the id that follows from its content."""
    calibration = Calibration("", measured_on, prices, rounds, measured_at, busy)
    return replace(calibration, calibration_id=_id_of(calibration))


def read_calibration(path: Path) -> Calibration | None:
    """A stored calibration; None if it is missing or damaged, which its id shows. Raises: UnreadableError."""
    try:
        kept = Calibration.from_dict(json.loads(record_bytes(path)))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return kept if kept.calibration_id == _id_of(kept) else None


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration; a kill leaves the old file or the new one."""
    write_text(path, json.dumps(calibration.as_dict(), indent=1))


def _id_of(calibration: Calibration) -> str:
    content = calibration.as_dict()
    # Earlier versions had no rounds, and their ids stay as they are.
    further = [content[name] for name in ("rounds", "measured_at", "busy") if name in content]
    return content_id([content["measured_on"], content["prices"], *further])
