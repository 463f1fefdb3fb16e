"""The runs of a sweep: exactly one for each trial, below one for the sweep.

A run that was asked for may exist although no answer came: the connection was lost, or our process killed. So before a
view creates its first run, it asks for all runs of the sweep, and before it repeats a request, for that run. Each run
is recognised by its tags: a random id of the sweep and the trial's id. Runs that a user deleted on MLflow's page are
created again.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeps.mlflow_view.address import EMBEDDED, experiment_name
from sweeps.mlflow_view.embedded import artifact_location
from sweeps.mlflow_view.state import TrackingState

_PARENT, _TRIAL, _TRIAL_OF, _SWEEP_ID = "mlflow.parentRunId", "kdas.trial_id", "kdas.trial_of", "kdas.sweep_id"
# What the parent run has attached, as `TrackingState.artifacts_id`.
ATTACHED = "kdas.attached"
# A server takes about a second for this number. MLflow's 1,000 could exceed the limit of a request.
_RUNS_PER_PAGE = 200


class SweepRuns:
    """Finds or creates the runs of one sweep. Records the parent run in `state`."""

    def __init__(self, client: MlflowClient, state: TrackingState) -> None:
        self._client, self._state = client, state
        # Runs that the server had before this view created any, by trial; None before it was asked.
        self._there: dict[str, Run] | None = None
        self._asking, self._unanswered = threading.Lock(), set[str]()

    def parent(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the sweep's own run. If it was deleted, the state is reset, since the trials' runs may be too."""
        known = self._state.facts.get("parent")
        if known is not None and self.active(known) is not None:
            return str(known)
        if known is not None:
            self._state.start_again()
        self._there = None
        experiment, sweep_id = self._experiment_id(), self._state.sweep_id
        found = self._only_one(self._search(experiment, f"tags.`{_SWEEP_ID}` = '{sweep_id}'"))
        if found is None:
            tags = {"mlflow.runName": name, "kdas.sweep": name, _SWEEP_ID: sweep_id, **tags}
            found = self._client.create_run(experiment, tags=tags, run_name=name)
        attached = {"attached": found.data.tags[ATTACHED]} if ATTACHED in found.data.tags else {}
        self._state.record(experiment=experiment, parent=found.info.run_id, sweep_id=sweep_id, **attached)
        return str(found.info.run_id)

    def of_trial(self, trial_id: str, parent: str) -> Run | None:
        """The run that the server has of a trial that the state lacks; None if it has none."""
        with self._asking:
            if self._there is None:
                self._there = self._all_of_sweep()
            found = self._there.pop(trial_id, None)
        if trial_id in self._unanswered:
            found = self._only_one(self._of_sweep(f" and tags.`{_TRIAL}` = '{trial_id}'"))
        if found is not None and found.data.tags.get(_PARENT) != parent:
            self._client.set_tag(found.info.run_id, _PARENT, parent)
        return found

    def create(
        self, trial_id: str, parent: str, name: str, tags: Mapping[str, str], began_at_ms: int | None = None
    ) -> str:
        """Create the run of a trial that the server does not have.

        Args: began_at_ms: when the trial began, in milliseconds since 1970; None: now.
        Returns: its id.
        """
        tags = {_PARENT: parent, _TRIAL: trial_id, _TRIAL_OF: self._state.sweep_id, **tags}
        self._unanswered.add(trial_id)
        made = self._client.create_run(
            self._state.facts["experiment"], start_time=began_at_ms, tags=tags, run_name=name
        )
        self._unanswered.discard(trial_id)
        return str(made.info.run_id)

    def active(self, run_id: str) -> Run | None:
        """The run; None if it does not exist or was deleted. Raises: MlflowException: if the server fails."""
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def deleted(self, parent: str) -> set[str]:
        """Ids of deleted runs of trials."""
        below = f"tags.`{_PARENT}` = '{parent}'"
        return {run.info.run_id for run in self._search(self._state.facts["experiment"], below, ViewType.DELETED_ONLY)}

    def close_those_that_run(self, parent: str) -> int:
        """Close all runs that appear to be running, since no trial is. Delete those that belong to no trial.

        Returns: how many belonged to a trial.
        """
        known = {sent.run for sent in self._state.trials.values()}
        running = f"tags.`{_PARENT}` = '{parent}' and attributes.status = 'RUNNING'"
        found = self._search(self._state.facts["experiment"], running)
        of_trials = [run for run in found if run.info.run_id in known]
        for run in of_trials:
            self._client.set_terminated(run.info.run_id, status="KILLED")
        # A server may have created them after we ceased to wait for its answer.
        self._remove([run for run in found if run.info.run_id not in known])
        return len(of_trials)

    def _experiment_id(self) -> str:
        name = experiment_name()
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "active":
            return str(found.experiment_id)
        if found is not None:
            # A deleted experiment still occupies its name: rename it, and leave it deleted.
            self._client.restore_experiment(found.experiment_id)
            self._client.rename_experiment(found.experiment_id, f"{name} (deleted, {found.experiment_id})")
            self._client.delete_experiment(found.experiment_id)
        artifacts = artifact_location() if self._state.uri == EMBEDDED else None
        return str(self._client.create_experiment(name, artifact_location=artifacts))

    def _all_of_sweep(self) -> dict[str, Run]:
        """One run for each trial that the server has, by trial; surplus ones are removed."""
        found: dict[str, list[Run]] = {}
        for run in self._of_sweep():
            found.setdefault(run.data.tags.get(_TRIAL, ""), []).append(run)
        known = {sent.run for sent in self._state.trials.values()}
        kept: dict[str, Run] = {}
        for trial_id, runs in found.items():
            in_order = sorted(runs, key=lambda run: run.info.run_id not in known)
            kept[trial_id] = in_order[0]
            self._remove(in_order[1:])
        return kept

    def _of_sweep(self, condition: str = "") -> list[Run]:
        own = f"tags.`{_TRIAL_OF}` = '{self._state.sweep_id}'"
        return self._search(self._state.facts["experiment"], own + condition)

    def _only_one(self, found: list[Run]) -> Run | None:
        """The first of several runs of the same thing; the others are removed."""
        self._remove(found[1:])
        return found[0] if found else None

    def _remove(self, surplus: Sequence[Run]) -> None:
        """Delete runs that should not exist. A user who may edit but not delete takes their tags away instead."""
        for run in surplus:
            run_id = run.info.run_id
            self._client.set_terminated(run_id, status="KILLED")
            try:
                self._client.delete_run(run_id)
            except MlflowException as error:
                if error.error_code != "PERMISSION_DENIED":
                    raise
                for tag in {_PARENT, _TRIAL_OF, _SWEEP_ID} & run.data.tags.keys():
                    self._client.delete_tag(run_id, tag)

    def _search(self, experiment: str, condition: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        """All runs that meet a condition, in order of their start."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment], condition, view, _RUNS_PER_PAGE, ["attributes.start_time ASC"], token
            )
            runs += page
            token = page.token
            if not token:
                return runs
