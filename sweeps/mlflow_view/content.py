"""What MLflow shows of a trial: metrics at each evaluation, parameters, tags."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from mlflow.entities import Metric, Param, RunTag

from kdas.records import Measure, Status
from sweeps.record.measure import time_to_target
from sweeps.record.tables import trial_status
from sweeps.record.trial import Recorded

_LONGEST_TAG = 5000
_METRICS = (
    "val_accuracy",
    "test_accuracy",
    "train_loss",
    "sampling_rate",
    "learning_rate",
    "cost_ref_s",
    "cost_as_run_s",
    "wall_s",
    "eval_s",
    "data_s",
    "num_cotenants",
    "epoch",
    "samples_trained",
    "samples_scored",
    "teacher_forwards",
    "flops",
)
# The last one sent for an evaluation.
LAST_METRIC = _METRICS[-1]


def evaluation_metrics(rows: Sequence[Recorded]) -> list[Metric]:
    """The metrics of these evaluations, at their steps and times."""
    return [_metric(name, float(recorded.row.as_dict()[name]), recorded) for recorded in rows for name in _METRICS]  # type: ignore[arg-type]


def final_metrics(rows: Sequence[Recorded], measure: Measure) -> list[Metric]:
    """The time to the target. MLflow cannot store infinity, so a miss has no such metric; its status tag shows it."""
    tta_ref_s = time_to_target(rows, measure.target)
    return [_metric("tta_ref_s", tta_ref_s, rows[-1])] if math.isfinite(tta_ref_s) else []


def final_tags(status: Status, error: str, rows: Sequence[Recorded], measure: Measure) -> list[RunTag]:
    """Tags that show how a trial ended."""
    tags = [RunTag("kdas.status", trial_status(status, rows, measure).value)]
    if rows:
        tags.append(RunTag("kdas.calibration_id", rows[-1].row.calibration_id))
    if error:
        # A store truncates long tags, and the end of a traceback is the most useful part.
        tags.append(RunTag("kdas.error", error[-_LONGEST_TAG:]))
    return tags


def parameters(config: dict[str, Any]) -> list[Param]:
    """The settings of a trial by dotted names, without those that are None."""
    return [Param(key, str(value)) for key, value in _flat(config)]


def _metric(name: str, value: float, recorded: Recorded) -> Metric:
    return Metric(name, value, int(recorded.recorded_at * 1000), recorded.row.step)


def _flat(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
