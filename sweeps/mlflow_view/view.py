"""MLflow as a view of the sweep directory: one parent run for each sweep, one child run for each trial.

A follower reads what the trials have written and sends it in batches. Trials never wait for it. After an outage, a
later pass sends what is missing.

A request costs a server 50 to 100 ms of a processor, whatever it holds. So a trial that runs is sent at most every half
minute, and a pass that has nothing to send asks the server nothing.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from mlflow.entities import DatasetInput, Run, RunTag
from mlflow.exceptions import MlflowException

from kdas.errors import is_on_containers
from kdas.files.record import DamagedError
from kdas.records import FINAL_STATUSES, Measure, Status
from sweeps.mlflow_view import embedded
from sweeps.mlflow_view.access import refusals_in_words
from sweeps.mlflow_view.address import (
    EMBEDDED,
    embedded_database,
    experiment_name,
    is_server,
    tracking_uri,
    without_secrets,
)
from sweeps.mlflow_view.batches import send_in_parts
from sweeps.mlflow_view.content import (
    LAST_METRIC,
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
from sweeps.mlflow_view.in_flight import REQUESTS_AT_ONCE, for_each
from sweeps.mlflow_view.models import StudentModels
from sweeps.mlflow_view.names import run_name
from sweeps.mlflow_view.page import SweepPage, varied_settings
from sweeps.mlflow_view.runs import ATTACHED, SweepRuns
from sweeps.mlflow_view.state import ARTIFACTS, Sent, TrackingState
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure
from sweeps.record.tables import trial_status
from sweeps.record.trial import Recorded, TrialFolder

# How often a trial that runs is sent, and how often a user's deletions are looked for.
_EVERY_S = 30.0


class MlflowView:
    """Uploads the content of a sweep directory. What was sent is recorded in its `tracking.journal`."""

    def __init__(self, directory: SweepDirectory) -> None:
        self._directory = directory
        self._state = TrackingState(directory)
        self._client = embedded.opened(tracking_uri(), experiment_name())
        self._at_once = REQUESTS_AT_ONCE if is_server(tracking_uri()) else 1
        self._runs = SweepRuns(self._client, self._state)
        self._page = SweepPage(self._client, self._state, directory)
        self.models = StudentModels(self._client, self._state, directory)
        self._varied = varied_settings(self._page.spec)
        self._settled: set[str] = set()
        # When this view sent each running trial, and looked for deletions, by `time.monotonic`.
        self._sent_at: dict[str, float] = {}
        self._looked_at = -math.inf
        self._known_data, self._new_data = set[str](), threading.Lock()

    @refusals_in_words()
    def update(self) -> str:
        """Send what is new on disk, of a running trial at most every half minute.

        Later passes skip a trial that has ended and was sent completely. Only another start, or a user who deletes its
        run, can change it. A capped trial is not skipped: this start may train it after all.

        Returns: the id of the parent run.
        Raises: UserError: if the server refuses this user; else what MLflow raises.
        """
        try:
            return self._update()
        except MlflowException:
            if self._looked_at == -math.inf:
                raise
            self._looked_at = -math.inf  # perhaps a user has deleted what this was sent to
            return self._update()

    def _update(self) -> str:
        parent, measure = self._parent_run(), read_measure(self._directory)
        if not self._state.facts.get("running"):
            self._state.record(running=True)

        def send(folder: TrialFolder) -> None:
            with suppress(DamagedError):  # other commands report it, and the next start trains the trial again
                self._update_trial(folder, parent, measure)

        for_each(self._directory.trials(leaving_out=self._settled), send, self._at_once)
        self._page.update(measure)
        return parent

    @refusals_in_words()
    def sync(self) -> str:
        """Send what is missing of a sweep that is not running, report and tables too, and close all of its runs.

        Returns: where they are.
        """
        self._sent_at.clear()
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
            self._client.set_tag(parent, ATTACHED, self._state.artifacts_id())
            self._state.record(attached=self._state.artifacts_id())
        elif was_interrupted:
            self._client.set_terminated(parent, status="KILLED")
        self._state.record(running=False)
        where, name = without_secrets(tracking_uri()), self._directory.name
        # A user's browser knows another address of a server on containers.
        return f"all runs are in MLflow at {where}{'' if is_on_containers() else f' (make ui NAME={name})'}"

    @refusals_in_words()
    def leave(self) -> None:
        """Mark all unfinished runs as killed after the sweep was interrupted, so that none appears to be running."""
        self._sent_at.clear()
        try:
            self.update()  # what was held back
        finally:
            parent = self._parent_run()
            self._runs.close_those_that_run(parent)
            self._client.set_terminated(parent, status="KILLED")
            self._state.record(running=False)

    def _parent_run(self) -> str:
        """The id of the sweep's own run. Notices whether a user deleted it, or runs of trials, on MLflow's page."""
        before = self._state.facts.get("parent")
        if self._state.uri == EMBEDDED:  # which costs no request
            embedded.ensure(embedded_database())
        elif before is not None and time.monotonic() - self._looked_at < _EVERY_S:
            return str(before)
        parent = self._runs.parent(self._directory.name, self._tags(environment_facts(self._directory)))
        if parent != before:
            self._settled.clear()
        gone = self._runs.deleted(parent)
        for trial_id in [trial_id for trial_id, sent in self._state.trials.items() if sent.run in gone]:
            self._forget(trial_id)
        self._looked_at = time.monotonic()
        return parent

    def _forget(self, trial_id: str) -> None:
        self._state.forget(trial_id)
        self._settled.discard(trial_id)

    def _tags(self, facts: Mapping[str, Any]) -> dict[str, str]:
        of_environment = {f"kdas.{name}": str(value) for name, value in facts.items()}
        return {**of_environment, **source_tags(self._directory.name, facts)}

    def _update_trial(self, folder: TrialFolder, parent: str, measure: Measure | None) -> None:
        sent = self._state.trials.get(folder.path.name) or self._begun(folder, parent, measure)
        try:
            self._send_missing(folder, sent, measure)
        except MlflowException:
            if self._runs.active(sent.run) is not None:
                raise
            self._forget(folder.path.name)  # deleted meanwhile
            self._send_missing(folder, self._begun(folder, parent, measure), measure)

    def _send_missing(self, folder: TrialFolder, sent: Sent, measure: Measure | None) -> None:
        # In this order: what a trial writes in between is sent at the next pass.
        status, num_bytes = folder.status, folder.curve_bytes
        is_complete = status is not Status.RUNNING and measure is not None
        is_new = sent.closed != is_complete or sent.bytes != num_bytes
        if is_new and (is_complete or self._is_due(folder.path.name)):
            rows = folder.rows()
            self._send_new(folder, rows, sent, status, measure)
            if is_complete:
                ended = _ended(status)
                self._client.set_terminated(sent.run, ended, end_time=ended_at_ms(rows))
            # A trial that starts over has fewer rows for a while, equal to those already sent.
            num_rows = max(sent.rows, len(rows))
            self._state.keep(folder.path.name, replace(sent, rows=num_rows, bytes=num_bytes, closed=is_complete))
            self._sent_at[folder.path.name] = time.monotonic()
        if is_complete and status is not Status.CAPPED:
            self._settled.add(folder.path.name)

    def _is_due(self, trial_id: str) -> bool:
        return time.monotonic() - self._sent_at.get(trial_id, -math.inf) >= _EVERY_S

    def _begun(self, folder: TrialFolder, parent: str, measure: Measure | None) -> Sent:
        """Find or create the run of a trial that the record lacks. Record it before anything is sent."""
        rows = folder.rows() if folder.curve_bytes else []
        found = self._runs.of_trial(folder.path.name, parent)
        if found is not None:
            sent = _what_it_has(found, folder, rows, measure)
        else:
            description = folder.description
            tags = {
                "kdas.sweep": self._directory.name,
                "kdas.config_id": description["config_id"],
                "kdas.method": description["method"],
                "kdas.phase": description["phase"],
                "kdas.configuration": description["configuration"],
                **self._tags(environment_facts(self._directory)),
            }
            run = self._runs.create(folder.path.name, parent, run_name(description), tags, began_at_ms(rows))
            sent = Sent(run)
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
                self._log_data(sent.run, data)
        if measure is not None:
            metrics = current_time(rows, measure) + metrics
        if measure is not None and status is not Status.RUNNING:
            metrics += final_metrics(status, rows, measure)
            # Where it was trained replaces what was known of the sweep when its run began.
            of_trial = (RunTag(f"kdas.{name}", value) for name, value in folder.provenance.items())
            tags = [*final_tags(status, folder.error, rows, measure), *of_trial]
        send_in_parts(self._client, sent.run, metrics, params, tags)

    def _log_data(self, run: str, data: list[DatasetInput]) -> None:
        """Name the data of a run. The first run to do so comes alone: two at once would each create the data set."""
        digest = str(data[0].dataset.digest)
        if digest not in self._known_data:
            with self._new_data:
                self._client.log_inputs(run, data)
                self._known_data.add(digest)
        else:
            self._client.log_inputs(run, data)


def _what_it_has(run: Run, folder: TrialFolder, rows: Sequence[Recorded], measure: Measure | None) -> Sent:
    """What the run of a trial has, by the last step of its curve and by its status."""
    steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
    num_rows = sum(recorded.row.step <= steps.get(LAST_METRIC, -1) for recorded in rows)
    status = folder.status
    is_told = run.data.tags.get("kdas.status") == trial_status(status, rows, measure).value
    if is_told and run.info.status == _ended(status) and num_rows == len(rows):
        return Sent(run.info.run_id, num_rows, folder.curve_bytes, closed=True)
    return Sent(run.info.run_id, num_rows, 0 if run.data.params else None)


def _ended(status: Status) -> str:
    """How MLflow calls the end of a trial."""
    return "FINISHED" if status in FINAL_STATUSES else "FAILED"


def register(directory: SweepDirectory, name: str) -> list[str]:
    """Register the best student of each method in MLflow. Returns, raises: as `StudentModels.register`."""
    return MlflowView(directory).models.register(name)
