"""What was already sent to MLflow, readable without loading MLflow."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from kdas.files.cache import content_id, file_id, write_text
from kdas.files.journal import Journal
from kdas.files.record import DamagedError
from sweeps.mlflow_view.address import EXPERIMENT, experiment_name, is_same_store, recorded_address, tracking_uri
from sweeps.record.directory import SweepDirectory

# Files attached to the parent run when a sweep has ended.
ARTIFACTS = (
    "report.html",
    "report.md",
    "answer.json",
    "summary.csv",
    "curves.parquet",
    "trials.parquet",
    "picks.parquet",
    "sweep.yaml",
)


@dataclass(frozen=True)
class Sent:
    """What the server has of a trial.

    `run`: the run's id; `rows`: number of rows sent; `bytes`: size of the curve file when it was last sent, None before
    anything was sent; `closed`: whether the run was closed.
    """

    run: str
    rows: int = 0
    bytes: int | None = None
    closed: bool = False


class TrackingState:
    """The sweep's `tracking.journal`: run ids, and how much of each trial was sent to this experiment of this server.

    It saves asking: what the server has is found out again if the address or the experiment is another one now. Later
    lines override earlier ones, so the cost of a line does not grow with the sweep. Several threads may record what
    they sent. `facts` are about the sweep: `uri`, `experiment_name`, `sweep_id`, `experiment` (its id), `parent`,
    `running` (whether its runs appear to be running), `views`, `links` and `described` (what the page shows of the
    sweep), `attached`, `models` (by trial, the run and the model that its student was sent as).
    """

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory, self._journal = directory, Journal(directory.tracking_file)
        self._id_file, self._lock = directory.path / "tracking.id", threading.Lock()
        self.uri, self._experiment_name = recorded_address(tracking_uri()), experiment_name()
        self.facts: dict[str, Any] = {}
        self.trials: dict[str, Sent] = {}
        try:
            for changes in self._journal.read():
                self._take_in(changes)
        except (DamagedError, AttributeError, TypeError):  # the runs are found again by their tags
            self.facts, self.trials = {}, {}
        recorded = str(self.facts.get("uri", ""))
        # Journals of earlier versions name no experiment: there was one.
        is_same_experiment = self.facts.get("experiment_name", EXPERIMENT) == self._experiment_name
        self._is_kept = is_same_store(recorded_address(recorded), self.uri) and is_same_experiment
        if recorded != recorded_address(recorded) or (self._is_kept and recorded != self.uri):
            # An earlier version wrote it, perhaps with a password.
            self.facts["uri"] = self.uri if self._is_kept else recorded_address(recorded)
            self._rewrite({trial_id: asdict(sent) for trial_id, sent in self.trials.items()})
        if not self._is_kept:
            self.start_again()

    @property
    def sweep_id(self) -> str:
        """An id that distinguishes this sweep's runs from those of other sweeps with the same name.

        It has a file of its own too, so that the runs are found again if the journal is lost.
        """
        try:
            kept = self._id_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            kept = ""
        if re.fullmatch("[0-9a-f]{32}", kept):
            return kept
        known = str(self.facts.get("sweep_id") or uuid.uuid4().hex)
        write_text(self._id_file, f"{known}\n")
        return known

    def start_again(self) -> None:
        """Reset the state: what the server has is not known."""
        self.facts = {"uri": self.uri, "experiment_name": self._experiment_name}
        self.trials, self._is_kept = {}, False

    def record(self, **facts: Any) -> None:
        """Record facts of the sweep, overriding earlier ones."""
        self._append(facts)

    def keep(self, trial_id: str, sent: Sent) -> None:
        """Record what the server has of a trial now."""
        self._append({"trials": {trial_id: asdict(sent)}})

    def forget(self, trial_id: str) -> None:
        """Record that the server has nothing of this trial."""
        self._append({"trials": {trial_id: None}})

    def _append(self, changes: dict[str, Any]) -> None:
        with self._lock:
            if not self._is_kept:
                self._rewrite({})
                self._is_kept = True
            self._take_in(changes)
            self._journal.append([changes], sync=False)

    def _rewrite(self, trials: Mapping[str, Any]) -> None:
        self._journal.replace([{**self.facts, "trials": trials}])

    def _take_in(self, changes: dict[str, Any]) -> None:
        for trial_id, sent in changes.get("trials", {}).items():
            if sent is None:
                self.trials.pop(trial_id, None)
            else:
                self.trials[trial_id] = Sent(**sent)
        self.facts.update({key: value for key, value in changes.items() if key != "trials"})

    def artifacts_id(self) -> str:
        """A hash of the files to attach to the parent run."""
        files = [self._directory.path / name for name in ARTIFACTS]
        return content_id([file_id(file) if file.exists() else "" for file in files])

    @property
    def is_attached(self) -> bool:
        """Whether the parent run has the files that are on disk now."""
        return bool(self.facts.get("attached") == self.artifacts_id())
