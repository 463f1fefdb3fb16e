"""Searches that tests in several folders use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeps.file.spec import SweepSpec
from tests.sweeps.conftest import search_of

Load = Callable[..., SweepSpec]
RATE = {"low": 0.3, "high": 0.9}
BY_SAMPLER = {
    "kd_weight": RATE,
    "start_rate": RATE,
    "SAMPLING_PERIOD": [[1, 3, 5, 10], 1, 4],
    "fraction": [0.25, 0.5],
    "sampler": ["kdas", "random", "static_random"],
}


def proposals(spec: SweepSpec, folder: Path, count: int = 30) -> list[dict[str, Any]]:
    study = search_of(folder / "study", spec)
    points = []
    for number in range(count):
        asked = study.ask()
        assert asked is not None
        study.tell(asked.number, [float(number)])
        points.append(asked.point)
    return points
