"""Append-only files of JSON lines: complete records survive a kill, and the next record starts a new line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kdas.files.journal import Journal

RECORDS: list[dict[str, Any]] = [{"number": 1, "of": "é"}, {"number": 2.5}, {"number": None, "inner": {"a": [1, 2]}}]
LINES = b'{"number": 1, "of": "\\u00e9"}\n{"number": 2.5}\n{"number": null, "inner": {"a": [1, 2]}}\n'


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "some.journal")


def test_records_come_back_as_they_were_appended(journal: Journal) -> None:
    journal.append(RECORDS[:1])
    journal.append(RECORDS[1:], sync=False)
    assert journal.read() == RECORDS
    assert journal.path.read_bytes() == journal.whole_lines() == LINES


def test_journal_without_a_file_is_empty_and_nothing_makes_none(journal: Journal) -> None:
    journal.append([])
    assert (journal.read(), journal.whole_lines(), journal.num_bytes) == ([], b"", 0)
    assert not journal.path.exists()


@pytest.mark.parametrize("num_kept", range(1, len(LINES)))
def test_wherever_a_kill_cuts_the_file_whole_records_stay_and_the_next_starts_a_line(
    journal: Journal, num_kept: int
) -> None:
    journal.path.write_bytes(LINES[:num_kept])
    # A record that lacks only its newline is complete.
    ends = [number for number, byte in enumerate(LINES) if byte == ord("\n")]
    num_whole = sum(end <= num_kept for end in ends)
    assert journal.read() == RECORDS[:num_whole]
    assert [json.loads(line) for line in journal.whole_lines().splitlines()] == RECORDS[:num_whole]
    journal.append([{"next": True}])
    assert journal.read() == [*RECORDS[:num_whole], {"next": True}]
    assert journal.path.read_bytes().startswith(LINES[:num_kept])
    assert journal.path.read_bytes().endswith(b'\n{"next": true}\n')


def test_replaced_journal_holds_the_new_records_alone(journal: Journal) -> None:
    journal.append(RECORDS)
    journal.replace(record for record in journal.read() if record["number"] == 2.5)
    assert journal.path.read_bytes() == b'{"number": 2.5}\n'
    journal.replace([])
    assert journal.path.read_bytes() == b"" and journal.num_bytes == 0
    journal.append(RECORDS[:1])
    assert journal.read() == RECORDS[:1]


def test_append_waits_for_the_disk_unless_told_otherwise(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    journal.append(RECORDS[:1], sync=False)
    assert not synced
    journal.append(RECORDS[1:])
    assert synced == [len(LINES)]  # everything was written before it waited
