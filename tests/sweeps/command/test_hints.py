"""The commands that messages tell users to type are those that work where the user is."""

from __future__ import annotations

import pytest

from sweeps.command.ending import resume_hint


def test_from_a_container_messages_name_the_command_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDAS_ON_CONTAINERS", raising=False)
    assert resume_hint("mine", ["seeds=3"]).endswith('Resume with: make sweep NAME=mine SET="seeds=3"')
    monkeypatch.setenv("KDAS_ON_CONTAINERS", "1")
    assert resume_hint("mine", ["seeds=3"]).endswith('Resume with: make sweep-on NAME=mine SET="seeds=3"')
