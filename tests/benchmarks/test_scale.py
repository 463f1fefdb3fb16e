"""The benchmark of large sweeps replays a sweep like any other."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale
from kdas.records import Status
from sweeps.record.directory import SweepDirectory
from sweeps.record.status import read_status


def test_a_replayed_sweep_is_complete_and_found_finished(tmp_path: Path) -> None:
    spec_file = scale.write_spec(60, tmp_path)
    directory = SweepDirectory(tmp_path / "runs" / "scale_60")
    figures = scale.replayed(spec_file, directory)
    assert figures["trials"] == 60
    counts = read_status(directory).counts
    assert counts[Status.CAPPED] > 0, "capping has its part in the cost"
    assert counts[Status.BUDGET] + counts[Status.CAPPED] == 60
    size = sum(path.stat().st_size for path in directory.path.rglob("*") if path.is_file())
    assert figures["disk_mb"] == size / 1e6
    assert set(scale.started_again(spec_file, directory)) == {"start_s", "tables_s", "load_s"}


@pytest.mark.slow
def test_each_figure_comes_from_a_process_of_its_own(tmp_path: Path) -> None:
    figures = scale.of_size(60, tmp_path)
    assert figures["trials"] == 60
    assert all(figures[f"{name}_s"] > 0 for name in ("start", "tables", "load", "status", "preview"))
