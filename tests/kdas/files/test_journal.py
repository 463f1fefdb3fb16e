"""Append-only files of JSON lines: what a kill leaves is read on, and a record that is lost is noticed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError
from kdas.files.journal import Journal
from kdas.files.record import DamagedError

RECORDS: list[dict[str, Any]] = [{"number": 1, "of": "é"}, {"number": 2.5}, {"number": None, "inner": {"a": [1, 2]}}]
PLAIN = b'{"number": 1, "of": "\\u00e9"}\n{"number": 2.5}\n{"number": null, "inner": {"a": [1, 2]}}\n'


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "some.journal")


def lines_of(journal: Journal) -> list[bytes]:
    return journal.path.read_bytes().splitlines(keepends=True)


def test_records_come_back_as_they_were_appended(journal: Journal) -> None:
    journal.append(RECORDS[:1])
    journal.append(RECORDS[1:], sync=False)
    assert journal.read() == RECORDS
    assert [json.loads(text) for text in journal.texts()] == RECORDS
    # Every line is JSON by itself.
    assert [json.loads(line).keys() - {"check"} for line in lines_of(journal)] == [record.keys() for record in RECORDS]


def test_plain_journal_holds_the_records_and_nothing_else(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "curve.jsonl", is_plain=True)
    journal.append(RECORDS[:1])
    journal.append(RECORDS[1:])
    assert journal.path.read_bytes() == PLAIN and journal.read() == RECORDS


def test_journal_without_a_file_is_empty_and_nothing_makes_none(journal: Journal) -> None:
    journal.append([])
    assert (journal.read(), journal.texts(), journal.num_bytes, journal.extent().num_records) == ([], [], 0, 0)
    assert not journal.path.exists()


def test_wherever_a_kill_cuts_the_file_complete_records_stay_and_the_next_starts_a_line(journal: Journal) -> None:
    journal.append(RECORDS)
    whole = journal.path.read_bytes()
    ends = [number for number, byte in enumerate(whole) if byte == ord("\n")]
    for num_kept in range(1, len(whole)):
        journal.path.write_bytes(whole[:num_kept])
        # A record whose line lacks only its newline is complete.
        complete = RECORDS[: sum(end <= num_kept for end in ends)]
        again = Journal(journal.path)
        assert again.read() == complete
        again.append([{"next": True}])
        assert Journal(journal.path).read() == [*complete, {"next": True}]
        assert journal.path.read_bytes().startswith(whole[:num_kept])


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [lines[0], lines[2]],
        lambda lines: lines[1:],
        lambda lines: [*lines[:2], lines[1], lines[2]],
        lambda lines: [lines[0], lines[2], lines[1]],
        lambda lines: [lines[0], lines[1].replace(b"2.5", b"2.6"), lines[2]],
        lambda lines: [b'{"number": 0}\n', *lines],
    ],
    ids=["lost", "lost first", "doubled", "swapped", "changed", "inserted"],
)
def test_record_that_is_lost_or_changed_is_noticed(journal: Journal, damage: Any) -> None:
    journal.append(RECORDS)
    journal.path.write_bytes(b"".join(damage(lines_of(journal))))
    with pytest.raises(DamagedError, match=r"some\.journal: line \d or a line before it is missing or changed\. "):
        Journal(journal.path).read()
    damaged = journal.path.read_bytes()
    with pytest.raises(DamagedError, match=r"some\.journal: line \d or a line before it is missing or changed\. "):
        Journal(journal.path).append([{"next": True}])
    assert journal.path.read_bytes() == damaged


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\n", b'{"number": 7, "che\n', b"\xff\xfe\n", b"12\n", b"[" * 100_000 + b"\n"]
)
def test_text_that_is_not_a_record_is_skipped(journal: Journal, garbage: bytes) -> None:
    journal.append(RECORDS)
    lines = lines_of(journal)
    journal.path.write_bytes(b"".join([garbage, lines[0], garbage, *lines[1:], garbage]))
    again = Journal(journal.path)
    assert again.read() == RECORDS
    again.append([{"next": True}])
    assert Journal(journal.path).read() == [*RECORDS, {"next": True}]


def test_extent_tells_two_journals_apart(journal: Journal, tmp_path: Path) -> None:
    journal.append(RECORDS)
    whole = journal.extent()
    assert whole.num_records == 3
    journal.path.write_bytes(b"".join(lines_of(journal)[:2]))
    assert journal.extent() != whole and journal.extent().num_records == 2
    other = Journal(tmp_path / "other.journal")
    other.append([*RECORDS[:2], {"number": 3}])
    assert other.extent() != whole and other.extent().num_records == 3


def test_journal_of_an_earlier_version_is_read_and_continued(journal: Journal) -> None:
    journal.path.write_bytes(PLAIN)
    assert journal.read() == RECORDS
    journal.append([{"next": True}])
    assert Journal(journal.path).read() == [*RECORDS, {"next": True}]
    # From now on its old lines are covered too.
    journal.path.write_bytes(journal.path.read_bytes().replace(b"2.5", b"2.6"))
    with pytest.raises(DamagedError, match="line 4 or a line before it is missing or changed"):
        Journal(journal.path).read()


def test_replaced_journal_holds_the_new_records_alone(journal: Journal) -> None:
    journal.append(RECORDS)
    journal.replace(record for record in journal.read() if record["number"] == 2.5)
    assert journal.read() == [{"number": 2.5}]
    journal.replace([])
    assert journal.path.read_bytes() == b"" and journal.num_bytes == 0
    journal.append(RECORDS[:1])
    assert Journal(journal.path).read() == RECORDS[:1]


def test_append_waits_for_the_disk_unless_told_otherwise(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []

    def sync(handle: int) -> None:
        synced.append((os.fstat(handle).st_ino, journal.num_bytes))

    monkeypatch.setattr(os, "fsync", sync)
    journal.append(RECORDS[:1], sync=False)
    assert not synced
    journal.append(RECORDS[1:])
    assert synced == [(journal.path.stat().st_ino, journal.num_bytes)]  # everything was written before it waited


def test_new_journal_is_on_the_disk_with_its_name(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    journal.append(RECORDS)
    assert synced == [journal.path.stat().st_ino, journal.path.parent.stat().st_ino]


def test_journal_that_the_system_does_not_let_us_read_is_one_line(journal: Journal) -> None:
    journal.path.mkdir()
    with pytest.raises(UserError, match=r"some\.journal: cannot be read: Is a directory\. "):
        journal.read()
