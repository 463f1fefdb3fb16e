"""The runs of a sweep: exactly one for each trial, below one for the sweep.

Before a run is created, it is looked up by its tags: MLflow's answer to an earlier request may have been lost, or our
record damaged. Runs that a user deleted on MLflow's page are created again.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeps.mlflow_view.address import EMBEDDED
from sweeps.mlflow_view.content import LAST_METRIC
from sweeps.mlflow_view.embedded import artifact_location
from sweeps.mlflow_view.state import Sent, TrackingState

EXPERIMENT = "kdas-sweeps"
_PARENT = "mlflow.parentRunId"


class SweepRuns:
    """Finds or creates the runs of one sweep. Records the parent run in `state`."""

    def __init__(self, client: MlflowClient, state: TrackingState) -> None:
        self._client, self._state = client, state

    def parent(self, name: str, tags: Mapping[str, str]) -> str:
        """The id of the sweep's own run. If it was deleted, the state is reset, since the trials' runs may be too."""
        known = self._state.facts.get("parent")
        if known is not None and self.active(known) is not None:
            return str(known)
        if known is not None:
            self._state.start_again()
        experiment, sweep_id = self._experiment_id(), self._state.sweep_id
        found = self._only_one(self._search(experiment, f"tags.`kdas.sweep_id` = '{sweep_id}'"))
        if found is None:
            tags = {"mlflow.runName": name, "kdas.sweep": name, "kdas.sweep_id": sweep_id, **tags}
            found = self._client.create_run(experiment, tags=tags, run_name=name)
        self._state.record(experiment=experiment, parent=found.info.run_id, sweep_id=sweep_id)
        return str(found.info.run_id)

    def of_trial(
        self, trial_id: str, parent: str, name: str, tags: Mapping[str, str], began_at_ms: int | None = None
    ) -> Sent:
        """Find or create the run of a trial that the state lacks.

        Args: began_at_ms: when the trial began, in milliseconds since 1970; None: now.
        Returns: what the server has of it.
        """
        experiment, sweep_id = self._state.facts["experiment"], self._state.sweep_id
        same_trial = self._search(experiment, f"tags.`kdas.trial_id` = '{trial_id}'")
        found = self._only_one([run for run in same_trial if _belongs(run, sweep_id, parent)])
        if found is None:
            tags = {_PARENT: parent, "kdas.trial_id": trial_id, "kdas.trial_of": sweep_id, **tags}
            made = self._client.create_run(experiment, start_time=began_at_ms, tags=tags, run_name=name)
            return Sent(str(made.info.run_id))
        if found.data.tags.get(_PARENT) != parent:
            self._client.set_tag(found.info.run_id, _PARENT, parent)
        # The last metric of an evaluation: if it has arrived, so have the others.
        steps = {metric.step for metric in self._client.get_metric_history(found.info.run_id, LAST_METRIC)}
        return Sent(str(found.info.run_id), rows=len(steps), bytes=0 if found.data.params else None)

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
        for run in found:
            self._client.set_terminated(run.info.run_id, status="KILLED")
            if run.info.run_id not in known:
                self._client.delete_run(run.info.run_id)
        return sum(run.info.run_id in known for run in found)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        if found is not None and found.lifecycle_stage == "active":
            return str(found.experiment_id)
        if found is not None:
            # A deleted experiment still occupies its name: rename it, and leave it deleted.
            self._client.restore_experiment(found.experiment_id)
            self._client.rename_experiment(found.experiment_id, f"{EXPERIMENT} (deleted, {found.experiment_id})")
            self._client.delete_experiment(found.experiment_id)
        artifacts = artifact_location() if self._state.uri == EMBEDDED else None
        return str(self._client.create_experiment(EXPERIMENT, artifact_location=artifacts))

    def _only_one(self, found: list[Run]) -> Run | None:
        """The first of several runs of the same thing; the others are deleted."""
        for surplus in found[1:]:
            self._client.set_terminated(surplus.info.run_id, status="KILLED")
            self._client.delete_run(surplus.info.run_id)
        return found[0] if found else None

    def _search(self, experiment: str, condition: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        """All runs that meet a condition, in order of their start."""
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs(
                [experiment], condition, view, order_by=["attributes.start_time ASC"], page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs


def _belongs(run: Run, sweep_id: str, parent: str) -> bool:
    """Earlier versions named no sweep in a trial's run, only the parent."""
    return bool(run.data.tags.get("kdas.trial_of") == sweep_id or run.data.tags.get(_PARENT) == parent)
