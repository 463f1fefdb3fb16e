"""What is looked for on each machine of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sweeps.execution import cluster
from sweeps.execution.machines import check_cluster
from sweeps.file.loading import load_spec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.file.refusals import BASE, written


def test_reference_of_a_baseline_must_be_on_every_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[str] = []

    def check_machines(folder: Path, paths: Sequence[str], device: str) -> None:
        looked_for.extend(paths)

    monkeypatch.setattr(cluster, "check_machines", check_machines)
    content = {**BASE, "baselines": {"plain_kd": "full", "gap": {"name": "reference_gap", "reference": "kept.pth"}}}
    check_cluster(load_spec(written(tmp_path, content)).methods, SweepDirectory(tmp_path / "run"))
    assert looked_for == [str(tmp_path / "kept.pth")]
