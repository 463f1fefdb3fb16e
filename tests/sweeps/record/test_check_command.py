"""`check` as a command: it repairs nothing of a sweep that runs."""

from __future__ import annotations

import pytest

from kdas.errors import UserError
from kdas.files.locks import is_held
from sweeps.__main__ import check
from sweeps.record.check import Finding
from sweeps.record.directory import SweepDirectory


@pytest.fixture
def begun(directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> SweepDirectory:
    monkeypatch.setenv("RUNS_DIR", str(directory.path.parent))
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.spec_file.write_text("seeds: 1\n", encoding="utf-8")
    return directory


def test_a_sweep_that_runs_is_not_checked(begun: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.record.check.check_sweep", lambda directory: pytest.fail("checked"))
    with begun.locked(), pytest.raises(UserError, match=r"is running this sweep\. Wait for it or stop it\.$"):
        check(begun.name)


@pytest.mark.parametrize(
    ("found", "last_line"),
    [([], "all files are as they were written"), ([Finding("a: restored.", is_repaired=True)], "repaired")],
)
def test_no_sweep_starts_while_it_is_checked(
    found: list[Finding],
    last_line: str,
    begun: SweepDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def check_sweep(directory: SweepDirectory) -> list[Finding]:
        assert is_held(directory.path / ".lock")
        return found

    monkeypatch.setattr("sweeps.record.check.check_sweep", check_sweep)
    check(begun.name)
    assert capsys.readouterr().out.splitlines() == [*(each.text for each in found), f"{begun.path}: {last_line}"]


def test_what_cannot_be_repaired_is_an_error(
    begun: SweepDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.record.check.check_sweep", lambda directory: [Finding("a: is damaged.")])
    with pytest.raises(UserError, match=r": is not as it was written; see above\.$"):
        check(begun.name)
    assert capsys.readouterr().out == "a: is damaged.\n"
