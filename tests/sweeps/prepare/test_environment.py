"""What a sweep keeps about where it runs."""

from __future__ import annotations

from typing import Any

import pytest

from sweeps.prepare import environment
from sweeps.record.directory import SweepDirectory


@pytest.mark.parametrize("diff", ["", "-a = 1\n+a = 2"])
def test_changes_that_no_commit_holds_are_kept_with_the_sweep(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, diff: str
) -> None:
    facts = {"git_diff": "1a2b" if diff else ""}
    monkeypatch.setattr(environment, "describe", lambda *given: facts)
    monkeypatch.setattr(environment, "uncommitted", lambda: diff)
    anything: Any = None
    environment.keep(directory, anything, anything, anything)
    assert environment.is_kept(directory)
    kept = list((directory.path / "changes").iterdir()) if diff else []
    assert [(file.name, file.read_text()) for file in kept] == ([("1a2b.diff", f"{diff}\n")] if diff else [])
    assert diff or not (directory.path / "changes").exists()
