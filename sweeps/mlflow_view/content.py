"""What MLflow shows of a trial: metrics at each evaluation, parameters, tags, its data."""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from kdas.files.record import DamagedError, read_record
from kdas.records import LATER_COLUMNS, Measure, Status
from sweeps.mlflow_view.names import METHOD, settings, short_names
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import time_to_target
from sweeps.record.tables import trial_status
from sweeps.record.trial import Recorded

# The time to the target, or the whole budget while or if a trial misses it: as the report's means count a miss. Unlike
# `tta_ref_s`, every trial has it, so averages on the page do not leave out the slow ones.
TTA_OR_BUDGET = "tta_or_budget_ref_s"
_LONGEST_TAG = 5000
_MS_PER_S = 1000
_LONGEST_DIGEST = 36
_METRICS = (
    "val_accuracy",
    "test_accuracy",
    *LATER_COLUMNS,
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
    return [
        _metric(name, float(value), recorded)  # type: ignore[arg-type]
        for recorded in rows
        for name in _METRICS
        if (value := recorded.row.as_dict()[name]) is not None  # else of an earlier version
    ]


def current_time(rows: Sequence[Recorded], measure: Measure) -> list[Metric]:
    """The time to the target as far as the rows tell, see `TTA_OR_BUDGET`.

    It is sent before all others, since MLflow's comparison of runs shows the metric first that was logged first.
    """
    if not rows:
        return []
    return [_metric(TTA_OR_BUDGET, min(time_to_target(rows, measure.target), measure.budget_ref_s), rows[-1])]


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


def parameters(config: Mapping[str, Any]) -> list[Param]:
    """Settings by dotted names, without those that are None."""
    return [Param(key, str(value)) for key, value in flat(config)]


def short_parameters(description: Mapping[str, Any], mixed: Container[str]) -> list[Param]:
    """What sets a trial apart, under short names: its method, and the settings that it sets or searches.

    Args: mixed: names of those that are numbers in some trials and lists or words in others. All are written as text,
        because the page's chart of parallel coordinates drops the trials whose value is of the rarer kind.
    """
    own = settings(description)
    short = short_names(own)
    shown = (Param(short[name], f"[{value}]" if name in mixed else value) for name, value in own.items())
    return [Param(METHOD, str(description["method"])), *shown]


def datasets(config: Mapping[str, Any], facts: Mapping[str, Any]) -> list[DatasetInput]:
    """The data of a trial. Args: facts: of `environment.json`; without a hash of the data there is no entry."""
    digest = str(facts.get("data_hash", ""))[:_LONGEST_DIGEST]
    if not digest:
        return []
    source = json.dumps({"uri": str(facts.get("data_source", ""))})
    data = Dataset(str(config["dataset"]["name"]), digest, "local", source)
    return [DatasetInput(data, [InputTag("mlflow.data.context", "training")])]


def environment_facts(directory: SweepDirectory) -> dict[str, Any]:
    """What `environment.json` says; nothing if it is missing or damaged."""
    try:
        return read_record(directory.environment_file, remedy="")
    except (FileNotFoundError, DamagedError):
        return {}


def source_tags(sweep: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """Tags that MLflow shows as the source of a run: the sweep file, and the commit of the code."""
    commit = {"mlflow.source.git.commit": str(facts["git_commit"])} if facts.get("git_commit") else {}
    return {"mlflow.source.name": f"{sweep.partition('/')[0]}.yaml", "mlflow.source.type": "LOCAL", **commit}


def began_at_ms(rows: Sequence[Recorded]) -> int | None:
    """When a trial began, in milliseconds since 1970; None if it has no row yet: it has only just begun.

    Otherwise a run that is uploaded later would seem to take as long as its upload.
    """
    if not rows:
        return None
    first = rows[0]
    return int((first.recorded_at - first.row.wall_s - first.row.eval_s) * _MS_PER_S)


def ended_at_ms(rows: Sequence[Recorded]) -> int | None:
    """When the last row was written; None if there is none."""
    return int(rows[-1].recorded_at * _MS_PER_S) if rows else None


def _metric(name: str, value: float, recorded: Recorded) -> Metric:
    return Metric(name, value, int(recorded.recorded_at * _MS_PER_S), recorded.row.step)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted names, without those that are None."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
