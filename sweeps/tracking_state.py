"""What of a sweep MLflow already has, readable without loading MLflow."""

from __future__ import annotations

import json
import os
from typing import Any

from kdas.cache import content_id, file_id, write_text
from sweeps.names import runs_root
from sweeps.store import SweepDirectory

# What the parent run is handed when a sweep has ended.
ARTIFACTS = ("report.html", "curves.parquet", "trials.parquet", "sweep.yaml")


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, else an embedded SQLite file beside the sweeps."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs_root() / 'mlflow.db'}"


class TrackingState:
    """The sweep's `tracking.json`: run ids, and how much of each trial was sent to this server."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self.uri = tracking_uri()
        try:
            content = json.loads(directory.tracking_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            content = {}
        # Another server is filled from the start.
        self.content: dict[str, Any] = content if content.get("uri") == self.uri else {"uri": self.uri, "trials": {}}

    def write(self) -> None:
        write_text(self._directory.tracking_file, json.dumps(self.content))

    def artifacts_id(self) -> str:
        """A hash of all that is attached to the parent run."""
        files = [self._directory.path / name for name in ARTIFACTS]
        return content_id([file_id(file) if file.exists() else "" for file in files])

    @property
    def is_attached(self) -> bool:
        """Whether the server has been handed everything as it lies on disk now."""
        return bool(self.content.get("attached") == self.artifacts_id())
