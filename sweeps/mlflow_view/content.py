"""What MLflow shows of a trial: metrics at each evaluation, parameters, tags, its data."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from kdas.files.record import DamagedError, read_record
from kdas.records import COMPLETE_STATUSES, LATER_COLUMNS, Measure, Status
from sweeps.mlflow_view.names import METHOD, Varied, log_name, settings, short_names
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import time_to_target
from sweeps.record.tables import trial_status
from sweeps.record.trial import Recorded

# The time to the target, or the whole budget while or if a trial misses it: as the report's means count a miss. Unlike
# `tta_ref_s`, every trial has it, so averages on the page do not leave out the slow ones.
TTA_OR_BUDGET = "tta_or_budget_ref_s"
# The same of trials whose time is certain: those that ran to their end, or reached the target before they were stopped.
# Of a trial that was stopped before, nobody knows when it would have reached the target.
CERTAIN_TTA_OR_BUDGET = "certain_tta_or_budget_ref_s"
_LONGEST_TAG = 5000
_MS_PER_S = 1000
_LONGEST_DIGEST = 36
# At each evaluation: what the prepared views and a look at a curve need. 240 evaluations are one request, where all
# columns of their rows would be four.
_AT_EACH = ("val_accuracy", "test_accuracy", "train_loss", "cost_ref_s")
# The last one sent for an evaluation.
LAST_METRIC = _AT_EACH[-1]
# The other columns, at the evaluation that reached the target and at the last one.
_AT_SOME = (
    *LATER_COLUMNS,
    "sampling_rate",
    "learning_rate",
    "cost_as_run_s",
    "wall_s",
    "eval_s",
    "data_s",
    "epoch",
    "samples_trained",
    "samples_scored",
    "teacher_forwards",
    "flops",
)
# Also at each evaluation, but only where it is not 0: most trials share their device at none.
_COTENANTS = "num_cotenants"


def evaluation_metrics(rows: Sequence[Recorded]) -> list[Metric]:
    """The metrics of these evaluations, at their steps and times."""
    sent: list[Metric] = []
    for recorded in rows:
        shared = (_COTENANTS,) if recorded.row.num_cotenants else ()
        sent += _metrics((*shared, *_AT_EACH), recorded)
    return sent


def current_time(rows: Sequence[Recorded], measure: Measure) -> list[Metric]:
    """The time to the target as far as the rows tell, see `TTA_OR_BUDGET`.

    It is sent before all others, since MLflow's comparison of runs shows the metric first that was logged first.
    """
    if not rows:
        return []
    return [_metric(TTA_OR_BUDGET, min(time_to_target(rows, measure.target), measure.budget_ref_s), rows[-1])]


def final_metrics(status: Status, rows: Sequence[Recorded], measure: Measure) -> list[Metric]:
    """The time to the target, and the columns that evaluations lack, at the one that reached it and at the last one.

    MLflow cannot store infinity, so a miss has no time; its status tag shows it.
    """
    if not rows:
        return []
    tta_ref_s, last = time_to_target(rows, measure.target), rows[-1]
    hit = next((recorded for recorded in rows if recorded.row.cost_ref_s == tta_ref_s), None)
    sent = [] if hit is None else [_metric("tta_ref_s", tta_ref_s, last)]
    if hit is not None or status in COMPLETE_STATUSES:
        sent.append(_metric(CERTAIN_TTA_OR_BUDGET, min(tta_ref_s, measure.budget_ref_s), last))
    if hit is not None and hit is not last:
        sent += _metrics(_AT_SOME, hit)
    return sent + _metrics(_AT_SOME, last)


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


def short_parameters(description: Mapping[str, Any], varied: Varied) -> list[Param]:
    """What sets a trial apart, under short names: its method, and the settings in which the sweep's trials differ.

    A setting that a trial leaves at its default is there too: the page draws runs without a parameter as if they had
    more of it than all others. A setting that is searched on a logarithmic scale is there as logarithm as well.
    """
    config = description["config"]
    known = dict(flat({**config, **config.get("sampler", {})}))
    values = {name: _in_words(known[name]) for name in varied.names if name in known} | settings(description)
    short = short_names(values)
    shown = [Param(short[name], f"[{value}]" if name in varied.mixed else value) for name, value in values.items()]
    logarithms = [
        Param(log_name(short[name]), f"{math.log10(float(value)):.6g}")
        for name, value in values.items()
        if name in varied.log and float(value) > 0
    ]
    return [Param(METHOD, str(description["method"])), *shown, *logarithms]


def _in_words(value: Any) -> str:
    """A setting as a trial's configuration in words shows it."""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


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


def _metrics(names: Sequence[str], recorded: Recorded) -> list[Metric]:
    values = ((name, getattr(recorded.row, name)) for name in names)
    # Rows of earlier versions lack some.
    return [_metric(name, float(value), recorded) for name, value in values if value is not None]


def _metric(name: str, value: float, recorded: Recorded) -> Metric:
    return Metric(name, value, int(recorded.recorded_at * _MS_PER_S), recorded.row.step)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings by dotted names, without those that are None."""
    for key, value in config.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
