"""What of a sweep MLflow already has, readable without loading MLflow."""

from __future__ import annotations

import os
from typing import Any

from kdas.files.cache import content_id, file_id
from kdas.files.journal import Journal
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import runs_root

# What the parent run is handed when a sweep has ended.
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
    """`MLFLOW_TRACKING_URI`, else an embedded SQLite file beside the sweeps."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_root() / 'mlflow.db'}"


class TrackingState:
    """The sweep's `tracking.journal`: run ids, and how much of each trial was sent to this server.

    One JSON object a line, later ones over earlier ones: what a line costs does not grow with the sweep.
    """

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory, self._journal = directory, Journal(directory.tracking_file)
        self.uri = tracking_uri()
        self.content: dict[str, Any] = {"trials": {}}
        for changes in self._journal.read():
            self._take_in(changes)
        self._is_kept = self.content.get("uri") == self.uri
        if not self._is_kept:
            # Another server is filled from the start.
            self.content = {"uri": self.uri, "trials": {}}

    def record(self, **changes: Any) -> None:
        """Keep facts of the sweep, and under `trials` those of single trials, over what is kept already."""
        if not self._is_kept:
            self._journal.replace([self.content])
            self._is_kept = True
        self._take_in(changes)
        self._journal.append([changes], sync=False)

    def _take_in(self, changes: dict[str, Any]) -> None:
        self.content["trials"].update(changes.get("trials", {}))
        self.content.update({key: value for key, value in changes.items() if key != "trials"})

    def artifacts_id(self) -> str:
        """A hash of all that is attached to the parent run."""
        files = [self._directory.path / name for name in ARTIFACTS]
        return content_id([file_id(file) if file.exists() else "" for file in files])

    @property
    def is_attached(self) -> bool:
        """Whether the server has been handed everything as it lies on disk now."""
        return bool(self.content.get("attached") == self.artifacts_id())
