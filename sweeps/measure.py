"""What the sweep is measured by: target and budget, fixed once and kept for every resume."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from kdas.cache import write_text
from kdas.records import COMPLETE_STATUSES, Status, first_reached
from sweeps.store import Recorded, SweepDirectory

if TYPE_CHECKING:
    from sweeps.plan import Job
    from sweeps.spec import SweepSpec


@dataclass(frozen=True)
class Measure:
    """`target`: accuracy on the split that decides; `tau_ref_s`: reference seconds any trial may spend.

    `calibration_ids`: all prices frozen with the sweep; `calibration_id`: those of its baselines. `algorithm` proposed
    the searched configurations, for the sake of `objective`; `log_parameters` are those drawn by order of magnitude.
    `confirm_configs`, finalists and baselines, are confirmed on `confirm_seeds`; both are empty before that begins.
    """

    sweep: str
    target: float
    target_rule: str
    tau_ref_s: float
    baseline: str
    split: str
    calibration_id: str
    data_source: str
    seeds: list[int]
    num_planned_trials: int
    calibration_ids: list[str] = field(default_factory=list)
    algorithm: str = ""
    objective: str = "tta"
    log_parameters: list[str] = field(default_factory=list)
    confirm_configs: list[str] = field(default_factory=list)
    confirm_seeds: list[int] = field(default_factory=list)


def best_accuracy(rows: Sequence[Recorded]) -> float:
    """The highest accuracy of a trial on the split that decides; NaN rows do not count."""
    accuracies = [r.row.val_accuracy for r in rows if not math.isnan(r.row.val_accuracy)]
    return max(accuracies, default=math.nan)


def time_to_target(rows: Sequence[Recorded], target: float) -> float:
    """Reference seconds until the target is reached, inf if it never is."""
    return first_reached([r.row.cost_ref_s for r in rows], [r.row.val_accuracy for r in rows], target)


def decide_target(spec: SweepSpec, directory: SweepDirectory, plain: list[Job]) -> tuple[float, str] | None:
    """The target and how it came about. Call it once plain distillation has ended on every seed.

    Returns: None if a fraction is asked for and a plain trial has crashed, or all of them have diverged.
    """
    if spec.target.accuracy is not None:
        return spec.target.accuracy, "given in the sweep file"
    folders = [directory.trial(job.trial_id) for job in plain]
    statuses = {folder.status for folder in folders}
    # The target is never moved again, so a part of a curve is not enough.
    if not statuses <= COMPLETE_STATUSES or statuses == {Status.DIVERGED}:
        return None
    best = [best_accuracy(folder.rows()) for folder in folders]
    best = [accuracy for accuracy in best if not math.isnan(accuracy)]
    if not best:
        return None
    fraction = spec.target.fraction_of_baseline
    split = "validation" if spec.validation else "test"
    seeds = f"{len(best)} seed{'s' if len(best) > 1 else ''}"
    rule = f"{fraction:g} of the median best {split} accuracy of {spec.plain_baseline} over {seeds}"
    return fraction * statistics.median(best), rule


def write_measure(directory: SweepDirectory, measure: Measure) -> None:
    """Keep what was fixed."""
    write_text(directory.measure_file, json.dumps(asdict(measure), indent=1))


def read_measure(directory: SweepDirectory) -> Measure | None:
    """What was fixed before; None if plain distillation has not ended yet."""
    try:
        return Measure(**json.loads(directory.measure_file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
