"""MLflow as a view of the sweep directory: one parent run for each sweep, one child run for each trial.

A follower reads what the trials have written and sends it in batches. Trials never wait for it. After an outage, a
later pass sends what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mlflow.entities import RunTag
from mlflow.exceptions import MlflowException

from kdas.files.record import DamagedError
from kdas.records import FINAL_STATUSES, Measure, Status
from sweeps.mlflow_view import embedded
from sweeps.mlflow_view.address import EMBEDDED, embedded_database, tracking_uri, without_secrets
from sweeps.mlflow_view.batches import send_in_parts
from sweeps.mlflow_view.content import (
    began_at_ms,
    current_time,
    datasets,
    ended_at_ms,
    environment_facts,
    evaluation_metrics,
    final_metrics,
    final_tags,
    parameters,
    short_parameters,
    source_tags,
)
from sweeps.mlflow_view.models import StudentModels
from sweeps.mlflow_view.names import run_name
from sweeps.mlflow_view.page import SweepPage, varied_settings
from sweeps.mlflow_view.runs import EXPERIMENT, SweepRuns
from sweeps.mlflow_view.state import ARTIFACTS, Sent, TrackingState
from sweeps.record.commands import is_on_containers
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure
from sweeps.record.trial import Recorded, TrialFolder


class MlflowView:
    """Uploads the content of a sweep directory. What was sent is recorded in its `tracking.journal`."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._state = TrackingState(directory)
        self._client = embedded.opened(tracking_uri(), EXPERIMENT)
        self._runs = SweepRuns(self._client, self._state)
        self._page = SweepPage(self._client, self._state, directory)
        self.models = StudentModels(self._client, self._state, directory)
        self._varied = varied_settings(self._page.spec)
        self._settled: set[str] = set()

    def update(self) -> str:
        """Send everything on disk that was not sent yet. Raises what MLflow raises.

        Later passes skip a trial that has ended and was sent completely. Only another start, or a user who deletes its
        run, can change it. A capped trial is not skipped: this start may train it after all.

        Returns: the id of the parent run.
        """
        parent, measure = self._parent_run(), read_measure(self._directory)
        if not self._state.facts.get("running"):
            self._state.record(running=True)
        for folder in self._directory.trials(leaving_out=self._settled):
            with suppress(DamagedError):  # other commands report it, and the next start trains the trial again
                self._update_trial(folder, parent, measure)
        self._page.update(measure)
        return parent

    def sync(self) -> str:
        """Send what is missing of a sweep that is not running, report and tables too, and close all of its runs.

        Returns: where they are.
        """
        parent = self.update()
        was_interrupted = self._runs.close_those_that_run(parent) > 0
        self.models.update()
        if not self._state.is_attached:
            for name in ARTIFACTS:
                if (self._directory.path / name).exists():
                    self._client.log_artifact(parent, str(self._directory.path / name))
            measure = read_measure(self._directory)
            if measure is not None:
                self._client.log_metric(parent, "target", measure.target)
                self._client.log_metric(parent, "tau_ref_s", measure.budget_ref_s)
            self._page.conclude()
            self._client.set_terminated(parent, status="KILLED" if was_interrupted else "FINISHED")
            self._state.record(attached=self._state.artifacts_id())
        elif was_interrupted:
            self._client.set_terminated(parent, status="KILLED")
        self._state.record(running=False)
        where, name = without_secrets(tracking_uri()), self._directory.name
        # A user's browser knows another address of a server on containers.
        return f"all runs are in MLflow at {where}{'' if is_on_containers() else f' (make ui NAME={name})'}"

    def leave(self) -> None:
        """Mark all unfinished runs as killed after the sweep was interrupted, so that none appears to be running."""
        parent = self._parent_run()
        self._runs.close_those_that_run(parent)
        self._client.set_terminated(parent, status="KILLED")
        self._state.record(running=False)

    def _parent_run(self) -> str:
        """The id of the sweep's own run. Notices whether a user deleted it, or runs of trials, on MLflow's page."""
        if self._state.uri == EMBEDDED:
            embedded.ensure(embedded_database())
        before = self._state.facts.get("parent")
        parent = self._runs.parent(self._directory.name, self._tags(environment_facts(self._directory)))
        if parent != before:
            self._settled.clear()
        gone = self._runs.deleted(parent)
        for trial_id in [trial_id for trial_id, sent in self._state.trials.items() if sent.run in gone]:
            self._forget(trial_id)
        return parent

    def _forget(self, trial_id: str) -> None:
        self._state.forget(trial_id)
        self._settled.discard(trial_id)

    def _tags(self, facts: Mapping[str, Any]) -> dict[str, str]:
        of_environment = {f"kdas.{name}": str(value) for name, value in facts.items()}
        return {**of_environment, **source_tags(self._directory.name, facts)}

    def _update_trial(self, folder: TrialFolder, parent: str, measure: Measure | None) -> None:
        sent = self._state.trials.get(folder.path.name) or self._begun(folder, parent)
        try:
            self._send_missing(folder, sent, measure)
        except MlflowException:
            if self._runs.active(sent.run) is not None:
                raise
            self._forget(folder.path.name)  # deleted meanwhile
            self._send_missing(folder, self._begun(folder, parent), measure)

    def _send_missing(self, folder: TrialFolder, sent: Sent, measure: Measure | None) -> None:
        # In this order: what a trial writes in between is sent at the next pass.
        status, num_bytes = folder.status, folder.curve_bytes
        is_complete = status is not Status.RUNNING and measure is not None
        if sent.closed != is_complete or sent.bytes != num_bytes:
            rows = folder.rows()
            self._send_new(folder, rows, sent, status, measure)
            if is_complete:
                ended = "FINISHED" if status in FINAL_STATUSES else "FAILED"
                self._client.set_terminated(sent.run, ended, end_time=ended_at_ms(rows))
            # A trial that starts over has fewer rows for a while, equal to those already sent.
            num_rows = max(sent.rows, len(rows))
            self._state.keep(folder.path.name, replace(sent, rows=num_rows, bytes=num_bytes, closed=is_complete))
        if is_complete and status is not Status.CAPPED:
            self._settled.add(folder.path.name)

    def _begun(self, folder: TrialFolder, parent: str) -> Sent:
        """Find or create the run of a trial that the record lacks. Record it before anything is sent."""
        description = folder.description
        tags = {
            "kdas.sweep": self._directory.name,
            "kdas.config_id": description["config_id"],
            "kdas.method": description["method"],
            "kdas.phase": description["phase"],
            "kdas.configuration": description["configuration"],
            **self._tags(environment_facts(self._directory)),
        }
        rows = folder.rows() if folder.curve_bytes else []
        sent = self._runs.of_trial(folder.path.name, parent, run_name(description), tags, began_at_ms(rows))
        self._state.keep(folder.path.name, sent)
        return sent

    def _send_new(
        self, folder: TrialFolder, rows: Sequence[Recorded], sent: Sent, status: Status, measure: Measure | None
    ) -> None:
        """Send what the server lacks of a trial. Args: status: as it was before the rows were read."""
        metrics = evaluation_metrics(rows[sent.rows :])
        params, tags = [], []
        if sent.bytes is None:
            description = folder.description
            params = short_parameters(description, self._varied) + parameters(description["config"])
            if data := datasets(description["config"], environment_facts(self._directory)):
                self._client.log_inputs(sent.run, data)
        if measure is not None:
            metrics = current_time(rows, measure) + metrics
        if measure is not None and status is not Status.RUNNING:
            metrics += final_metrics(status, rows, measure)
            # Where it was trained replaces what was known of the sweep when its run began.
            of_trial = (RunTag(f"kdas.{name}", value) for name, value in folder.provenance.items())
            tags = [*final_tags(status, folder.error, rows, measure), *of_trial]
        send_in_parts(self._client, sent.run, metrics, params, tags)


def register(directory: SweepDirectory, name: str) -> list[str]:
    """Register the best student of each method in MLflow. Returns, raises: as `StudentModels.register`."""
    return MlflowView(directory).models.register(name)
