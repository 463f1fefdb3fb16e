"""What a sweep takes besides training is kept for later estimates."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeps.record.overhead import Overhead, keep_after, keep_of_run, known_overhead


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path / "cache"))


def test_both_processes_of_a_sweep_add_what_they_took() -> None:
    assert known_overhead() is None
    keep_of_run(around_s=9.0, per_trial_s=0.5)
    assert known_overhead() is None  # the report is missing
    keep_after(6.0)
    assert known_overhead() == Overhead(15.0, 0.5)
    keep_of_run(around_s=4.0, per_trial_s=0.25)
    assert known_overhead() == Overhead(10.0, 0.25)


def test_a_damaged_file_counts_as_none_and_is_written_again(tmp_path: Path) -> None:
    keep_of_run(around_s=9.0, per_trial_s=0.5)
    keep_after(6.0)
    file = tmp_path / "cache" / "overhead.json"
    file.write_text(file.read_text().replace("9.0", "8.0"))
    assert known_overhead() is None
    keep_of_run(around_s=9.0, per_trial_s=0.5)
    keep_after(6.0)
    assert known_overhead() == Overhead(15.0, 0.5)


def test_a_cache_that_cannot_be_written_to_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in its place")
    keep_after(6.0)
    assert known_overhead() is None
