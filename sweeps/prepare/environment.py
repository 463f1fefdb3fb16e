"""Versions, hardware, commit and data of a sweep, kept with it and shown in its report."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from kdas.clock import Calibration
from kdas.compute.device import hardware_name
from kdas.files.record import DamagedError, read_record, write_record
from kdas.recipe.config import TrialConfig
from kdas.training.trial import Inputs
from sweeps.engine.prices import Prices
from sweeps.record.directory import SweepDirectory

_PACKAGES = ("kdas-sweeps", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def describe(recipe: TrialConfig, inputs: Inputs, prices: Prices) -> dict[str, str]:
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
        **_of_prices(list(prices.calibrations.values())),
    }


def _of_prices(calibrations: Sequence[Calibration]) -> dict[str, str]:
    """The worst of the sweep's prices; nothing for prices of earlier versions, which recorded none of it."""
    if not all(each.rounds for each in calibrations):
        return {}
    measured_at = datetime.fromtimestamp(min(each.measured_at for each in calibrations), UTC)
    return {
        "price_spread": repr(max(each.spread for each in calibrations)),
        "prices_measured_at": measured_at.isoformat(timespec="seconds"),
        "prices_busy": next((each.busy for each in calibrations if each.busy), ""),
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


def keep(directory: SweepDirectory, recipe: TrialConfig, inputs: Inputs, prices: Prices) -> None:
    """Keep the facts with the sweep."""
    write_record(directory.environment_file, describe(recipe, inputs, prices))


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
