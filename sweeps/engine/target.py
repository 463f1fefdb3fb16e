"""The target: given, or a fraction of what plain distillation reaches."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from kdas.records import COMPLETE_STATUSES, Status
from sweeps.file.blocks import TargetConfig
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import best_accuracy


def decide_target(
    target: TargetConfig, directory: SweepDirectory, plain: Sequence[Job], split: str
) -> tuple[float, str] | None:
    """The target and the rule behind it, in words. Call it once plain distillation has ended on every seed.

    Args: plain: its jobs; split: the one that decides, validation or test.
    Returns: None if the target is a fraction and a plain trial has crashed, or all of them have diverged.
    """
    if target.accuracy is not None:
        return target.accuracy, "given in the sweep file"
    folders = [directory.trial(job.trial_id) for job in plain]
    statuses = {folder.status for folder in folders}
    # The target never changes afterwards, so incomplete curves are not enough.
    if not statuses <= COMPLETE_STATUSES or statuses == {Status.DIVERGED}:
        return None
    best = [best_accuracy(folder.rows()) for folder in folders]
    best = [accuracy for accuracy in best if not math.isnan(accuracy)]
    if not best:
        return None
    fraction = target.fraction_of_baseline
    seeds = f"{len(best)} seed{'s' if len(best) > 1 else ''}"
    rule = f"{fraction:g} of the median best {split} accuracy of {plain[0].method} over {seeds}"
    return fraction * statistics.median(best), rule
