"""What was already sent to MLflow, readable without loading MLflow."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from kdas.files.cache import content_id, file_id
from kdas.files.journal import Journal
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import runs_root

# Files attached to the parent run when a sweep has ended.
ARTIFACTS = (
    "report.html",
    "report.md",
    "summary.csv",
    "curves.parquet",
    "trials.parquet",
    "picks.parquet",
    "sweep.yaml",
)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an SQLite file beside the sweeps."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_root() / 'mlflow.db'}"


@dataclass(frozen=True)
class Sent:
    """What the server has of a trial: its run, the number of rows, the size of the curve file when it was last sent
    (None before anything was sent), and whether the run was closed."""

    run: str
    rows: int = 0
    bytes: int | None = None
    closed: bool = False


class TrackingState:
    """The sweep's `tracking.journal`: run ids, and how much of each trial was sent to this server.

    Later lines override earlier ones, so the cost of a line does not grow with the sweep. `facts` are about the sweep:
    `uri`, `experiment`, `parent`, `attached`.
    """

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory, self._journal = directory, Journal(directory.tracking_file)
        self.uri = tracking_uri()
        self.facts: dict[str, Any] = {}
        self.trials: dict[str, Sent] = {}
        for changes in self._journal.read():
            self._take_in(changes)
        self._is_kept = self.facts.get("uri") == self.uri
        if not self._is_kept:
            # Another server is filled from the beginning.
            self.facts, self.trials = {"uri": self.uri}, {}

    def record(self, **facts: Any) -> None:
        """Record facts of the sweep, overriding earlier ones."""
        self._append(facts)

    def keep(self, trial_id: str, sent: Sent) -> None:
        """Record what the server now has of a trial."""
        self._append({"trials": {trial_id: asdict(sent)}})

    def _append(self, changes: dict[str, Any]) -> None:
        if not self._is_kept:
            self._journal.replace([{**self.facts, "trials": {}}])
            self._is_kept = True
        self._take_in(changes)
        self._journal.append([changes], sync=False)

    def _take_in(self, changes: dict[str, Any]) -> None:
        self.trials.update({trial_id: Sent(**sent) for trial_id, sent in changes.get("trials", {}).items()})
        self.facts.update({key: value for key, value in changes.items() if key != "trials"})

    def artifacts_id(self) -> str:
        """A hash of the files to attach to the parent run."""
        files = [self._directory.path / name for name in ARTIFACTS]
        return content_id([file_id(file) if file.exists() else "" for file in files])

    @property
    def is_attached(self) -> bool:
        """Whether the server has everything as it is on disk now."""
        return bool(self.facts.get("attached") == self.artifacts_id())
