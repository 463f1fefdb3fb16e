"""Kept students as MLflow's logged models, and in its registry if the user asks for that.

They are saved as exported programs of PyTorch, not as pickles: to load one needs MLflow and PyTorch alone.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlflow.entities import LoggedModelOutput
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from kdas.errors import UserError
from kdas.students.about import ABOUT
from sweeps.mlflow_view.state import TrackingState
from sweeps.record.directory import SweepDirectory
from sweeps.record.students import KeptStudent, kept_students
from sweeps.record.winner import winner_of

_EXAMPLE_BATCH = 2
# The alias of the sweep's best student.
BEST = "best"


class StudentModels:
    """Uploads the students of a finished sweep, each once. The state's fact `models` says which were sent."""

    def __init__(self, client: MlflowClient, state: TrackingState, directory: SweepDirectory) -> None:
        self._client, self._state, self._directory = client, state, directory

    def update(self) -> None:
        """Send the students that the server lacks. Those that cannot be exported are left out: their files remain."""
        known = dict(self._state.facts.get("models", {}))
        for kept in kept_students(self._directory):
            trial_id = kept.about.trial_id
            sent = self._state.trials.get(trial_id)
            # A run that was deleted on the page is another one now, and has no model.
            if sent is None or known.get(trial_id, [None])[0] == sent.run:
                continue
            model_id = self._of_run(sent.run) or self._sent(kept, sent.run)
            if model_id is not None:
                known[trial_id] = [sent.run, model_id]
                self._state.record(models=known)

    def _of_run(self, run_id: str) -> str | None:
        """The model that a run has, if our record of it was lost."""
        outputs = self._client.get_run(run_id).outputs
        models = outputs.model_outputs if outputs is not None else []
        return str(models[0].model_id) if models else None

    def _sent(self, kept: KeptStudent, run_id: str) -> str | None:
        about = kept.about
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            if not _saved(kept, path):
                return None
            experiment = self._client.get_run(run_id).info.experiment_id
            params = {"model": about.student, "trial_id": about.trial_id, "decided_by": about.decided_by}
            model = self._client.create_logged_model(
                experiment, name=kept.path.name, source_run_id=run_id, params=params, model_type="student"
            )
            self._client.log_model_artifacts(model.model_id, str(path))
        self._client.finalize_logged_model(model.model_id, "READY")
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, about.best["step"])])
        return str(model.model_id)

    def register(self, name: str) -> list[str]:
        """Register the best student of each method as a version of the model `name`, with the method as its alias.

        The best of all has the alias `best` too. What is registered already is not registered again.

        Returns: a line for each alias.
        Raises: UserError: if there are no students, or MLflow refuses the name.
        """
        models = self._state.facts.get("models", {})
        best = {each.about.trial_id: alias for alias, each in best_of_methods(self._directory)}
        chosen = [trial_id for trial_id in best if trial_id in models]
        if not chosen:
            raise UserError(f"REGISTER={name}: no student of {self._directory.name} is in MLflow. Run make sync first.")
        try:
            self._create(name)
            versions = {each.run_id: each.version for each in self._client.search_model_versions(f"name = '{name}'")}
            told = []
            winner = {folder.path.name for folder in winner_of(self._directory).trials}
            # The winner last: a method may be called `best`.
            for trial_id in sorted(chosen, key=lambda each: each in winner):
                run_id, model_id = models[trial_id]
                version = versions.get(run_id) or self._version(name, run_id, model_id)
                for alias in [best[trial_id], *([BEST] if trial_id in winner else [])]:
                    self._client.set_registered_model_alias(name, alias, version)
                    told.append(f"models:/{name}@{alias} is version {version}, of trial {trial_id}")
        except MlflowException as error:
            raise UserError(f"REGISTER={name}: {str(error).splitlines()[0]} Give another name.") from error
        return told

    def _create(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version(self, name: str, run_id: str, model_id: str) -> str:
        # Not its address in MLflow, which the store would look up at the address that is set for the whole process.
        files = self._client.get_logged_model(model_id).artifact_location
        made = self._client.create_model_version(name, files, run_id=run_id, model_id=model_id)
        return str(made.version)


def best_of_methods(directory: SweepDirectory) -> Iterable[tuple[str, KeptStudent]]:
    """The best student of each method: of its best configuration, the seed with the highest accuracy on the split that
    decides, the first of equals. If that configuration has no students, of all that the method has.
    """
    students = list(kept_students(directory))
    for method in sorted({kept.method for kept in students}):
        of_method = [kept for kept in students if kept.method == method]
        trials = set()
        with suppress(UserError):  # none of its configurations has ended on every seed
            trials = {folder.path.name for folder in winner_of(directory, method).trials}
        of_winner = [kept for kept in of_method if kept.about.trial_id in trials]
        yield method, max(of_winner or of_method, key=lambda each: (each.about.best["val_accuracy"], -each.seed))


def _saved(kept: KeptStudent, path: Path) -> bool:
    """Save a student in MLflow's layout. Returns: False if it cannot be exported."""
    about, size = kept.about, (3, kept.about.image_size, kept.about.image_size)
    with _quiet():
        # Only now: they import torch, which most passes do without.
        import mlflow.pytorch
        import numpy as np
        import torch
        from mlflow.models.signature import ModelSignature
        from mlflow.types.schema import Schema, TensorSpec

        from kdas.students.student import load_student

        images = Schema([TensorSpec(np.dtype("uint8"), (-1, *size))])
        logits = Schema([TensorSpec(np.dtype("float32"), (-1, about.num_classes))])
        try:
            mlflow.pytorch.save_model(
                load_student(kept.path, own_code=True),  # the sweep has run that code itself
                str(path),
                signature=ModelSignature(images, logits),
                input_example=np.zeros((_EXAMPLE_BATCH, *size), np.uint8),
                pip_requirements=[f"torch=={torch.__version__.partition('+')[0]}"],
                serialization_format="pt2",
                extra_files=[str(kept.path / ABOUT)],
            )
        except OSError:
            raise
        except Exception:  # noqa: BLE001 (whatever keeps a user's network from being exported, its file remains)
            return False
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of MLflow and of PyTorch's exporter, which are about their own code."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
