"""The commands that messages tell users to type are those that work where the user is."""

from __future__ import annotations

import pytest

from sweeps.command.ending import resume_hint


@pytest.fixture(autouse=True)
def _on_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RUNS_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_a_hint_repeats_where_the_sweep_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDAS_ON_CONTAINERS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "first:6379")
    monkeypatch.setenv("RUNS_DIR", "/shared/my runs")
    hint = resume_hint("mine", None)
    assert hint.endswith("Resume with: make sweep NAME=mine CLUSTER=first:6379 RUNS_DIR='/shared/my runs'")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert resume_hint("mine", None).endswith("Resume with: make sweep NAME=mine")
    monkeypatch.delenv("SLURM_JOB_ID")
    monkeypatch.setenv("KDAS_ON_CONTAINERS", "1")
    assert resume_hint("mine", None).endswith("Resume with: make sweep-on NAME=mine")


def test_from_a_container_messages_name_the_command_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KDAS_ON_CONTAINERS", raising=False)
    assert resume_hint("mine", ["seeds=3"]).endswith('Resume with: make sweep NAME=mine SET="seeds=3"')
    monkeypatch.setenv("KDAS_ON_CONTAINERS", "1")
    assert resume_hint("mine", ["seeds=3"]).endswith('Resume with: make sweep-on NAME=mine SET="seeds=3"')
