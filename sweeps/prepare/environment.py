"""Versions, hardware, commit and data of a sweep, kept with it and shown in its report."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from kdas.clock import Calibration
from kdas.files.cache import write_text
from kdas.files.record import DamagedError, read_record, write_record
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import SelfTeacher
from kdas.students.start import start_id
from kdas.training.provenance import package_version, provenance, uncommitted
from kdas.training.trial import Inputs
from sweeps.engine.prices import Prices
from sweeps.record.directory import SweepDirectory

# Beside those that a trial alone depends on.
_PACKAGES = ("ray", "optuna", "mlflow")


def describe(recipe: TrialConfig, inputs: Inputs, prices: Prices, others: Sequence[TrialConfig] = ()) -> dict[str, str]:
    """Flat facts for the report and for MLflow's tags. A teacher is evaluated if this machine never has.

    Args: others: trials with the other teachers of methods.
    """
    return {
        **provenance(inputs.device),
        **{package: package_version(package) for package in _PACKAGES},
        "threads": str(recipe.threads),
        "data_source": inputs.dataset.origin,
        "data_hash": inputs.dataset.fingerprint,
        "teacher": recipe.teacher.model,
        "teacher_weights": inputs.teacher.weights_id,
        **_of_teacher(recipe, inputs),
        **({"teachers_of_methods": _of_methods(others, inputs)} if others else {}),
        **({"student_start": start} if (start := start_id(recipe, inputs.splits.num_classes)) else {}),
        **_of_prices(list(prices.calibrations.values())),
    }


def _of_teacher(recipe: TrialConfig, inputs: Inputs) -> dict[str, str]:
    """How good it is, and each of several; nothing for a teacher that is the student's own past."""
    if isinstance(recipe.teacher, SelfTeacher):
        return {}
    quality = inputs.teacher_quality(recipe)
    of_members = ", ".join(f"{name} {each.accuracy:.1%}" for name, each in inputs.member_qualities(recipe).items())
    return {
        "teacher_accuracy": repr(quality.accuracy),
        "teacher_accuracy_clear_from": repr(quality.clear_from),
        **({"teacher_members": of_members} if of_members else {}),
    }


def _of_methods(others: Sequence[TrialConfig], inputs: Inputs) -> str:
    """Each of the other teachers, with its accuracy if it has one."""
    found = []
    for each in others:
        accuracy = _of_teacher(each, inputs.of(each)).get("teacher_accuracy")
        found.append(each.teacher.model + (f" {float(accuracy):.1%}" if accuracy else ""))
    return ", ".join(found)


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


def is_kept(directory: SweepDirectory) -> bool:
    """Whether the sweep has its facts. Nothing depends on them, so damaged ones are written again."""
    try:
        read_record(directory.environment_file, remedy="")
    except (FileNotFoundError, DamagedError):
        return False
    return True


def keep(
    directory: SweepDirectory,
    recipe: TrialConfig,
    inputs: Inputs,
    prices: Prices,
    others: Sequence[TrialConfig] = (),
) -> None:
    """Keep the facts with the sweep, and the changes to the code that no commit holds, named by their hash."""
    facts = describe(recipe, inputs, prices, others)
    write_record(directory.environment_file, facts)
    if facts["git_diff"]:
        write_text(directory.path / "changes" / f"{facts['git_diff']}.diff", f"{uncommitted()}\n")
