"""Versions, hardware, commit and data of a sweep, kept with it and shown in its report."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path

from kdas.compute.device import hardware_name
from kdas.files.record import DamagedError, read_record, write_record
from kdas.recipe.config import TrialConfig
from kdas.training.trial import Inputs
from sweeps.record.directory import SweepDirectory

_PACKAGES = ("kdas-sweeps", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def describe(recipe: TrialConfig, inputs: Inputs) -> dict[str, str]:
    """Flat facts for the report and for MLflow's tags. The teacher is evaluated if this machine never has."""
    quality = inputs.teacher_quality(recipe)
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "hardware": hardware_name(inputs.device),
        "device": inputs.device,
        "threads": str(recipe.threads),
        "data_source": inputs.dataset.origin,
        "data_hash": inputs.dataset.fingerprint,
        "teacher": recipe.teacher.model,
        "teacher_weights": inputs.teacher.weights_id,
        "teacher_accuracy": repr(quality.accuracy),
        "teacher_accuracy_clear_from": repr(quality.clear_from),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # this project, where it runs from its source tree alone
        return "not installed"


def is_kept(directory: SweepDirectory) -> bool:
    """Whether the sweep has its facts. Nothing depends on them, so damaged ones are written again."""
    try:
        read_record(directory.environment_file, remedy="")
    except (FileNotFoundError, DamagedError):
        return False
    return True


def keep(directory: SweepDirectory, recipe: TrialConfig, inputs: Inputs) -> None:
    """Keep the facts with the sweep."""
    write_record(directory.environment_file, describe(recipe, inputs))


def git_commit() -> str:
    """The commit of this checkout, with `+changes` if tracked files differ from it; empty outside a checkout."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if commit and git("status", "--porcelain", "--untracked-files=no") else commit
    except OSError:  # git is not installed
        return ""
