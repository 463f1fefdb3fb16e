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

from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from kdas.errors import UserError, make_command
from kdas.students.about import ABOUT
from kdas.students.about import BEST as WEIGHTS
from sweeps.mlflow_view.names import BEST, aliases, as_name
from sweeps.mlflow_view.state import TrackingState
from sweeps.record.directory import SweepDirectory
from sweeps.record.students import KeptStudent, kept_students
from sweeps.record.winner import winner_of

_EXAMPLE_BATCH = 2


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
            model_id = self._sent(kept, sent.run)
            if model_id is not None:
                known[trial_id] = [sent.run, model_id]
                self._state.record(models=known)

    def _sent(self, kept: KeptStudent, run_id: str) -> str | None:
        """Complete the model of a run, which a kill may have left at any point. Returns: its id; None without one."""
        about, run = kept.about, self._client.get_run(run_id)
        outputs = [each.model_id for each in (run.outputs.model_outputs if run.outputs is not None else [])]
        if outputs:
            return str(outputs[0])
        model = self._begun(run, about.trial_id)
        if model is None or model.status != LoggedModelStatus.READY:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model"
                if not _saved(kept, path):
                    return None
                params = {"model": about.student, "trial_id": about.trial_id, "decided_by": about.decided_by}
                model = model or self._client.create_logged_model(
                    run.info.experiment_id,
                    name=as_name(kept.path.name),
                    source_run_id=run_id,
                    params=params,
                    model_type="student",
                )
                self._client.log_model_artifacts(model.model_id, str(path))
            self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        # Last: a run with a model has a complete one.
        self._client.log_outputs(run_id, [LoggedModelOutput(model.model_id, about.best["step"])])
        return str(model.model_id)

    def _begun(self, run: Run, trial_id: str) -> LoggedModel | None:
        """The model that was created for a run, perhaps by a pass that was killed before the run told of it."""
        found = self._client.search_logged_models([run.info.experiment_id], f"params.trial_id = '{trial_id}'")
        return next((model for model in found if model.source_run_id == run.info.run_id), None)

    def register(self, name: str) -> list[str]:
        """Register the best student of each method as a version of the model `name`, with the method as its alias.

        A method's name that MLflow refuses as alias is changed, see `names.aliases`. The best of all has the alias
        `best` too. What is registered already is not registered again.

        Returns: a line for each alias.
        Raises: UserError: if there are no students, or MLflow refuses the name.
        """
        models = self._state.facts.get("models", {})
        students = dict(best_of_methods(self._directory))
        alias_of = aliases(students)
        chosen = [(alias_of[method], kept) for method, kept in students.items() if kept.about.trial_id in models]
        if not chosen:
            sync = make_command("sync", self._directory.name)
            raise UserError(f"REGISTER={name}: no student of {self._directory.name} is in MLflow. Run {sync} first.")
        winner = {folder.path.name for folder in winner_of(self._directory).trials}
        chosen += [(BEST, kept) for _, kept in chosen if kept.about.trial_id in winner]
        try:
            self._create(name)
            versions = {each.run_id: each.version for each in self._client.search_model_versions(f"name = '{name}'")}
            told = []
            for alias, kept in chosen:
                trial_id = kept.about.trial_id
                run_id, model_id = models[trial_id]
                if run_id not in versions:
                    versions[run_id] = self._version(name, run_id, model_id, kept)
                self._client.set_registered_model_alias(name, alias, versions[run_id])
                told.append(f"models:/{name}@{alias} is version {versions[run_id]}, of trial {trial_id}")
        except MlflowException as error:
            reason, remedy = str(error).splitlines()[0], "Try again."
            if error.error_code == "INVALID_PARAMETER_VALUE":
                remedy = "Give another name."
            elif error.error_code == "PERMISSION_DENIED":
                reason, remedy = "this user may not change that model.", "Ask for EDIT on it, or give another name."
            raise UserError(f"REGISTER={name}: {reason} {remedy}") from error
        return told

    def _create(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _version(self, name: str, run_id: str, model_id: str, kept: KeptStudent) -> str:
        # Not its address in MLflow, which the store would look up at the address that is set for the whole process.
        files = self._client.get_logged_model(model_id).artifact_location
        tags, description = version_tags(kept), version_description(kept)
        made = self._client.create_model_version(
            name, files, run_id=run_id, tags=tags, description=description, model_id=model_id
        )
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


def version_description(kept: KeptStudent) -> str:
    """What a student is and how good, in Markdown, as MLflow's page shows it of a version."""
    about, sweep = kept.about, kept.about.sweep
    best = about.best
    again = f"{make_command('reproduce', sweep['name'])} TRIAL={about.trial_id}"
    return (
        f"{about.student} for {about.data['name']}, distilled from {about.teacher['model']} by {sweep['method']}"
        f" ({sweep['configuration']}), seed {kept.seed}, in the sweep {sweep['name']}. Accuracy in epoch"
        f" {best['epoch']}, which the {about.decided_by} split chose: {best['val_accuracy']:.4f} on that split,"
        f" {best['test_accuracy']:.4f} on the test split. Train it again: `{again}`."
    )


def version_tags(kept: KeptStudent) -> dict[str, str]:
    """Facts of a student by which versions are found: accuracies, where it comes from, and hashes."""
    about, sweep = kept.about, kept.about.sweep
    facts = {
        "sweep": sweep["name"],
        "trial_id": about.trial_id,
        "config_id": kept.config_id,
        "method": sweep["method"],
        "configuration": sweep["configuration"],
        "seed": kept.seed,
        "phase": sweep["phase"],
        "decided_by": about.decided_by,
        "val_accuracy": about.best["val_accuracy"],
        "test_accuracy": about.best["test_accuracy"],
        "weights_hash": about.files[WEIGHTS],
        "teacher_weights": about.teacher["weights"],
        "data_hash": next(iter(about.data["identity"]), ""),
        "git_commit": about.provenance.get("git_commit", ""),
    }
    return {f"kdas.{name}": str(value) for name, value in facts.items()}


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
