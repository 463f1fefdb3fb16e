"""MLflow as a view of the sweep directory: one parent run a sweep, a child run a trial.

A follower reads what the trials have written and sends it in batches. Trials never wait for it, an outage costs
nothing, and a later pass sends what is missing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import Any

# MLflow reads this when it is imported: nothing is sent to its makers.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that does not answer is asked again at the next pass; minutes of retries would only hold up the end.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from kdas.records import FINAL_STATUSES, Measure, Status
from sweeps.mlflow_view.tracking_state import ARTIFACTS, TrackingState
from sweeps.record.directory import Recorded, SweepDirectory, TrialFolder
from sweeps.record.measure import read_measure, time_to_target
from sweeps.record.paths import runs_root
from sweeps.record.tables import trial_status

# The store's own limits for one call.
METRICS_PER_CALL, PARAMS_PER_CALL, TAGS_PER_CALL = 1000, 100, 100
_LONGEST_TAG = 5000
EXPERIMENT = "kdas-sweeps"
# The first use of a new SQLite store would print every migration of its schema.
for _name in ("alembic", "mlflow.store.db.utils"):
    logging.getLogger(_name).setLevel(logging.WARNING)
_METRICS = (
    "val_accuracy",
    "test_accuracy",
    "train_loss",
    "sampling_rate",
    "learning_rate",
    "cost_ref_s",
    "cost_as_run_s",
    "wall_s",
    "eval_s",
    "data_s",
    "num_cotenants",
    "epoch",
    "samples_trained",
    "samples_scored",
    "teacher_forwards",
    "flops",
)


class MlflowView:
    """Brings MLflow up to what the directory holds. What was sent is kept in the sweep's `tracking.journal`."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._state = TrackingState(directory)
        self._client = MlflowClient(tracking_uri=self._state.uri)
        self._sent = self._state.content
        self._settled: set[str] = set()

    def update(self) -> None:
        """Send all that is on disk and was not sent. Raises what MLflow raises.

        A trial that has ended and was sent whole is not looked at again: it changes at another start only.
        """
        parent, measure = self._parent_run(), read_measure(self._directory)
        for folder in self._directory.trials(leaving_out=self._settled):
            self._update_trial(folder, parent, measure)

    def attach(self) -> str:
        """The last pass: the finished tables and the report go to the parent run. Returns: the parent run's id."""
        self.update()
        parent = self._parent_run()
        for name in ARTIFACTS:
            if (self._directory.path / name).exists():
                self._client.log_artifact(parent, str(self._directory.path / name))
        measure = read_measure(self._directory)
        if measure is not None:
            self._client.log_metric(parent, "target", measure.target)
            self._client.log_metric(parent, "tau_ref_s", measure.tau_ref_s)
        self._client.set_terminated(parent)
        self._state.record(attached=self._state.artifacts_id())
        return parent

    def leave(self) -> None:
        """The sweep was stopped: no run may look as if it were still under way."""
        for sent in self._sent["trials"].values():
            if not sent["closed"]:
                self._client.set_terminated(sent["run"], status="KILLED")
        self._client.set_terminated(self._parent_run(), status="KILLED")

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None:
            return str(found.experiment_id)
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else (runs_root() / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))

    def _parent_run(self) -> str:
        if "parent" not in self._sent:
            experiment = self._experiment_id()
            tags = {"mlflow.runName": self._directory.name, "kdas.sweep": self._directory.name, **self._tags()}
            run = self._client.create_run(experiment, tags=tags, run_name=self._directory.name)
            self._state.record(experiment=experiment, parent=run.info.run_id)
        return str(self._sent["parent"])

    def _tags(self) -> dict[str, str]:
        try:
            facts = json.loads(self._directory.environment_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return {f"kdas.{name}": str(value) for name, value in facts.items()}

    def _update_trial(self, folder: TrialFolder, parent: str, measure: Measure | None) -> None:
        trial_id, status, num_bytes = folder.path.name, folder.status, folder.curve_bytes
        is_complete = status is not Status.RUNNING and measure is not None
        sent = self._sent["trials"].get(trial_id)
        if sent is None:
            sent = {"run": self._new_run(folder, parent), "rows": 0, "bytes": None, "closed": False}
            self._state.record(trials={trial_id: sent})
        if sent["closed"] != is_complete or sent["bytes"] != num_bytes:
            rows = folder.rows()
            metrics = [metric for recorded in rows[sent["rows"] :] for metric in _metrics(recorded)]
            is_first = sent["bytes"] is None
            params = [Param(key, str(value)) for key, value in _flat(folder.description["config"])] if is_first else []
            tags: list[RunTag] = []
            if is_complete and measure is not None:
                metrics += _time_metric(rows, measure.target)
                tags = [RunTag("kdas.status", trial_status(status, rows, measure).value)]
                tags += [RunTag("kdas.calibration_id", rows[-1].row.calibration_id)] if rows else []
                # A store cuts a tag off where it is too long for it; a traceback says most at its end.
                tags += [RunTag("kdas.error", folder.error[-_LONGEST_TAG:])] if folder.error else []
            self._send(sent["run"], metrics, params, tags)
            if is_complete:
                self._client.set_terminated(sent["run"], "FINISHED" if status in FINAL_STATUSES else "FAILED")
            # A trial that begins again has fewer rows for a while; they are the same as those that were sent.
            num_rows = max(sent["rows"], len(rows))
            now = {**sent, "rows": num_rows, "bytes": num_bytes, "closed": is_complete}
            self._state.record(trials={trial_id: now})
        if is_complete:
            self._settled.add(trial_id)

    def _new_run(self, folder: TrialFolder, parent: str) -> str:
        description = folder.description
        name = f"{description['method']} {description['config_id'][:6]} seed {description['config']['seed']}"
        tags = {
            "mlflow.parentRunId": parent,
            "kdas.sweep": self._directory.name,
            "kdas.trial_id": folder.path.name,
            "kdas.config_id": description["config_id"],
            "kdas.method": description["method"],
            "kdas.phase": description["phase"],
            "kdas.configuration": description["configuration"],
            **self._tags(),
        }
        run = self._client.create_run(self._sent["experiment"], tags=tags, run_name=name)
        return str(run.info.run_id)

    def _send(self, run: str, metrics: list[Metric], params: list[Param], tags: list[RunTag]) -> None:
        """In as few calls as the store allows: what a call costs hardly depends on what it holds."""
        parts = (_parts(metrics, METRICS_PER_CALL), _parts(params, PARAMS_PER_CALL), _parts(tags, TAGS_PER_CALL))
        for some_metrics, some_params, some_tags in zip_longest(*parts, fillvalue=()):
            self._client.log_batch(run, metrics=some_metrics, params=some_params, tags=some_tags)


def _time_metric(rows: Sequence[Recorded], target: float) -> list[Metric]:
    """A store cannot hold infinity: a miss has no such metric, and its status tag says so."""
    tta_ref_s = time_to_target(rows, target)
    return [_metric("tta_ref_s", tta_ref_s, rows[-1])] if math.isfinite(tta_ref_s) else []


def _metrics(recorded: Recorded) -> Iterator[Metric]:
    row = recorded.row.as_dict()
    for name in _METRICS:
        yield _metric(name, float(row[name]), recorded)  # type: ignore[arg-type]


def _metric(name: str, value: float, recorded: Recorded) -> Metric:
    return Metric(name, value, int(recorded.recorded_at * 1000), recorded.row.step)


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value


def failure_text(error: Exception) -> str:
    """What went wrong with the server, in a line."""
    return f"{type(error).__name__}: {error}".split("\n", 1)[0]


def pause_s(took_s: float) -> float:
    """Seconds to rest after a pass that took so many: a follower works for a quarter of the time at most.

    Where trials end faster than a server takes them in, it would take processor and disk from them all the time.
    """
    return max(2.0, 3 * took_s)


class Follower:
    """Updates the view in a thread while the sweep runs. A failure is remembered, never raised into the sweep."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._sweep_is_finished = False
        self.failure: str = ""

    def start(self) -> None:
        self._thread.start()

    def stop(self, sweep_is_finished: bool) -> None:
        """Send the rest and end."""
        self._sweep_is_finished = sweep_is_finished
        self._stop.set()
        self._thread.join(timeout=30)

    def _follow(self) -> None:
        view: MlflowView | None = None
        while True:
            is_last = self._stop.is_set()
            began = time.monotonic()
            try:
                view = view or MlflowView(self._directory)
                view.update()
                if is_last and not self._sweep_is_finished:
                    view.leave()
                self.failure = ""
            except Exception as error:  # noqa: BLE001 (whatever a tracking server does, the sweep goes on)
                self.failure = failure_text(error)
            if is_last:
                return
            self._stop.wait(pause_s(time.monotonic() - began))
