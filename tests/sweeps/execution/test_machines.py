"""What is looked for on each machine of a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdas.files.locks import locked
from sweeps.engine.slots import Slots
from sweeps.execution import cluster
from sweeps.execution.machines import members_of_cluster
from sweeps.execution.node_report import Needs, code_here, report
from sweeps.file.loading import load_spec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.file.refusals import BASE, written


def test_reference_of_a_baseline_must_be_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[Needs] = []
    monkeypatch.setattr(cluster, "Members", lambda needs, slots, tell: looked_for.append(needs))
    content = {**BASE, "baselines": {"plain_kd": "full", "gap": {"name": "reference_gap", "reference": "kept.pth"}}}
    spec = load_spec(written(tmp_path, content))
    members_of_cluster(spec.methods, SweepDirectory(tmp_path / "run"), Slots(1, 1, 0.0), print)
    assert looked_for[0].paths == (str(tmp_path / "kept.pth"),)


@pytest.fixture
def needs(tmp_path: Path) -> Needs:
    data = tmp_path / "data"
    data.mkdir()
    return Needs(str(tmp_path), str(tmp_path / ".lock"), (str(data),), "cpu", code_here())


def test_a_machine_that_sees_folder_files_and_lock_can_train(needs: Needs) -> None:
    with locked(Path(needs.lock)):
        found = report(needs)
    assert not found.problem
    assert found.kind


def test_a_machine_that_lacks_something_says_what(needs: Needs, tmp_path: Path) -> None:
    with locked(Path(needs.lock)):
        gone = str(tmp_path / "gone")
        assert report(replace(needs, folder=gone)).problem.startswith(f"cannot see {gone}. Set RUNS_DIR to a path that")
        assert report(replace(needs, paths=(gone,))).problem.startswith(f"cannot see {gone}. Put a copy there")
        assert "has different code or versions" in report(replace(needs, code="kdas 0")).problem


def test_a_machine_that_the_locks_do_not_reach_is_refused(needs: Needs) -> None:
    """As with NFS that is mounted with `nolock`: the file is there, and nobody seems to hold it."""
    Path(needs.lock).touch()
    assert report(needs).problem.startswith(f"does not see the lock on {needs.lock}. Set RUNS_DIR to a file system")
