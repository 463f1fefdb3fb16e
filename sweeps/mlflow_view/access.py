"""Whether this user may write to the experiment on a tracking server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from kdas.errors import UserError
from sweeps.mlflow_view.address import experiment_name, tracking_uri, without_secrets
from sweeps.mlflow_view.page import KIND, TRAINING


def check_access() -> None:
    """Ask the tracking server with a change that changes nothing. If there is no such experiment, create it.

    A server that does not answer refuses nobody: the end of the sweep says so, and a later upload sends everything.

    Raises: UserError: if the server does not know the user, or lets them only read.
    """
    name, client = experiment_name(), MlflowClient(tracking_uri=tracking_uri())
    with suppress(MlflowException), refusals_in_words():
        found = client.get_experiment_by_name(name)
        if found is None:
            client.create_experiment(name)
        elif found.lifecycle_stage == "active":
            client.set_experiment_tag(found.experiment_id, KIND, found.tags.get(KIND, TRAINING))


@contextmanager
def refusals_in_words() -> Iterator[None]:
    """Within the block, or the function that it decorates, a server's refusal of this user is told with its remedy.

    Raises: UserError: instead of what MLflow raises; anything else passes.
    """
    try:
        yield
    except MlflowException as error:
        address = f"MLFLOW_TRACKING_URI={without_secrets(tracking_uri())}"
        if error.error_code == "UNAUTHENTICATED":
            raise UserError(
                f"{address}: the server refuses this user and password. Correct them in the address, or set"
                " MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            ) from error
        if error.error_code == "PERMISSION_DENIED":
            raise UserError(
                f"{address}: this user may not write to the experiment {experiment_name()}. Ask for EDIT on it, name"
                " another one with MLFLOW_EXPERIMENT_NAME, or run without MLflow: KDAS_TRACKING= (empty)."
            ) from error
        raise
