"""What is done without, and what waits, when the disk is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kdas.errors import UserError
from kdas.files import checkpoint, full
from kdas.files.cache import write_text
from kdas.files.journal import Journal


class FullDisk:
    """Every flush to the disk fails until there is room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_full = True
        real = os.fsync

        def fsync(handle: int) -> None:
            if self.is_full:
                raise OSError(errno.ENOSPC, "No space left on device")
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FullDisk:
    return FullDisk(monkeypatch)


def test_an_append_that_finds_the_disk_full_leaves_the_journal_as_it_was(tmp_path: Path, disk: FullDisk) -> None:
    journal = Journal(tmp_path / "a.jsonl")
    disk.is_full = False
    journal.append([{"row": 1}])
    before = journal.path.read_bytes()
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):
        journal.append([{"row": 2}])
    assert journal.path.read_bytes() == before


def test_record_files_wait_for_room_and_are_written_once(tmp_path: Path, disk: FullDisk) -> None:
    journal, text = Journal(tmp_path / "a.jsonl"), tmp_path / "b.json"
    waited: list[Path] = []

    def wait(path: Path) -> None:
        waited.append(path)
        disk.is_full = len(waited) % 3 != 0

    with full.waiting_for_room(wait):
        journal.append([{"row": 1}])
        disk.is_full = True
        write_text(text, "whole")
    assert waited == [journal.path] * 3 + [text] * 3
    assert (journal.read(), text.read_text()) == ([{"row": 1}], "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.json"]
    disk.is_full = True
    with pytest.raises(OSError, match="No space left"):  # nobody waits any more
        write_text(text, "other")


def test_other_errors_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(handle: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "fsync", denied)
    with full.waiting_for_room(lambda path: pytest.fail("waited")), pytest.raises(PermissionError, match="denied"):
        write_text(tmp_path / "b.json", "whole")


def test_what_can_be_computed_again_is_done_without(tmp_path: Path, disk: FullDisk) -> None:
    with (
        pytest.warns(UserWarning, match=r"prices\.json: not kept, since this disk is full"),
        full.going_without(tmp_path / "prices.json"),
    ):
        write_text(tmp_path / "prices.json", "whole")
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_kept_is_not_begun(tmp_path: Path) -> None:
    full.check_room(tmp_path, 1, "the teacher")
    with pytest.raises(UserError, match=r"the teacher needs 1000000000000 MB, and \d+ MB are free"):
        full.check_room(tmp_path, 10**18, "the teacher")


def test_a_checkpoint_that_does_not_fit_is_a_full_disk_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoint.save(tmp_path / "a.pt", {"step": 1})
    monkeypatch.setattr(Path, "write_bytes", no_room)
    with pytest.warns(UserWarning, match=r"a\.pt: not kept"), full.going_without(tmp_path / "a.pt"):
        checkpoint.save_and_keep_previous(tmp_path / "a.pt", {"step": 2})
    assert checkpoint.load_newest_intact(tmp_path / "a.pt") == {"step": 1}
