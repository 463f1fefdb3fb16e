"""The parquet tables that analysis reads: curves, trials and picks, rebuilt from the sweep directory."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import json as arrow_json

from kdas.clock import Calibration, priced, without_teacher_s
from kdas.errors import UserError
from kdas.files.cache import replaced_whole
from kdas.recipe.teacher import name_of
from kdas.records import (
    CURVE_COLUMNS,
    PICKS_COLUMNS,
    PRICE_ROUND,
    TRIAL_COLUMNS,
    WITHOUT_TEACHER,
    Measure,
    Status,
    reached,
)
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import best_accuracy, read_measure, time_to_target
from sweeps.record.trial import Recorded, TrialFolder


def write_tables(directory: SweepDirectory) -> int:
    """Write curves, trials and picks as `.parquet`, those of all cells together. Returns: the number of trials.

    Raises: as `sweep_tables`.
    """
    tables = sweep_tables(directory)
    for name, table in tables.items():
        with replaced_whole(directory.path / name) as temporary:
            pq.write_table(table, temporary)
    return int(tables["trials.parquet"].num_rows)


def sweep_tables(directory: SweepDirectory) -> dict[str, pa.Table]:
    """The tables by file name.

    Raises: UserError: if a trial that has ended is damaged or missing. A table without it would give another answer.
    """
    curves: list[dict[str, Any]] = []
    trials: list[dict[str, Any]] = []
    settings: list[dict[str, Any]] = []
    picks: list[list[bytes]] = []
    for each in directory.cells() or [directory]:
        measure = read_measure(each)
        calibrations, num_ended = each.calibrations(), 0
        for folder in each.trials():
            if damage := folder.damage():
                raise damage
            num_ended += folder.is_final
            rows = folder.rows()
            labels = {"sweep": each.name, "method": folder.description["method"], "phase": folder.description["phase"]}
            curves.extend(
                {**labels, **recorded.row.as_dict(), WITHOUT_TEACHER: _without_teacher_s(recorded, calibrations)}
                for recorded in rows
            )
            trials.append(_trial_row(labels, folder, rows, measure) | _of_price_rounds(rows, measure, calibrations))
            settings.append(_settings(folder.description["config"]))
            picks.append(folder.picks.texts())
        if measure is not None and num_ended < measure.num_ended_trials:
            raise UserError(
                f"{each.path}: {num_ended} trials have ended, expected {measure.num_ended_trials} as when the sweep"
                " ended. Run the sweep again to train the missing ones."
            )
    return {
        "curves.parquet": pa.Table.from_pylist(curves, schema=curve_schema()),
        "trials.parquet": _trials_table(trials, settings),
        "picks.parquet": picks_table(trials, picks),
    }


def _trials_table(trials: Sequence[dict[str, Any]], settings: Sequence[dict[str, Any]]) -> pa.Table:
    """The columns of `_trial_row`, then one for each other setting in which trials differ."""
    names = dict.fromkeys(name for trial in trials for name in trial)
    columns = {name: [trial.get(name) for trial in trials] for name in names}
    for name in dict.fromkeys(name for each in settings for name in each):
        values = [each.get(name) for each in settings]
        if name not in columns and len(set(values)) > 1:
            columns[name] = _of_one_kind(values)
    return pa.table(columns)


def _of_one_kind(values: list[Any]) -> list[Any]:
    """Values that fit into one column: if numbers and texts are mixed, all become text."""
    are_numbers = all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values
    )
    return values if are_numbers else [None if value is None else str(value) for value in values]


_TEXT = {"sweep", "method", "phase", "trial_id", "config_id", "dataset", "pair", "calibration_id", "device"}
_COUNTS = {"seed", "epoch", "step", "samples_trained", "samples_scored", "teacher_forwards", "num_cotenants"}


def curve_schema() -> pa.Schema:
    """The columns of `curves.parquet` with their types; the last is empty where prices are not known."""

    def kind(name: str) -> pa.DataType:
        return pa.string() if name in _TEXT else pa.int64() if name in _COUNTS else pa.float64()

    return pa.schema([(name, kind(name)) for name in (*CURVE_COLUMNS, WITHOUT_TEACHER)])


_COUNTED = pa.list_(pa.int64())
_OF_A_WINDOW = pa.schema([("epoch", pa.int64()), ("by_class", _COUNTED), ("by_confidence", _COUNTED)])
# Longer than any line, even with the counts of half a million classes.
_BLOCK_BYTES = 2**22


def picks_schema() -> pa.Schema:
    """The columns of `picks.parquet` with their types."""
    of_a_trial = [name for name in PICKS_COLUMNS if name not in _OF_A_WINDOW.names]
    fields = [(name, pa.string() if name in _TEXT else pa.int64()) for name in of_a_trial]
    return pa.schema([*fields, *_OF_A_WINDOW])


def picks_table(trials: Sequence[dict[str, Any]], windows_of: Sequence[Sequence[bytes]]) -> pa.Table:
    """One row for each window. Args: trials: rows of `trials.parquet`; windows_of: the JSON texts of each trial."""
    schema, content = picks_schema(), b"\n".join(text for texts in windows_of for text in texts)
    if not content:
        return schema.empty_table()
    # Parsed without a Python object for each count: ten thousand trials have millions.
    windows = arrow_json.read_json(
        io.BytesIO(content),
        read_options=arrow_json.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=arrow_json.ParseOptions(explicit_schema=_OF_A_WINDOW, unexpected_field_behavior="error"),
    )
    trial_of_row = np.repeat(np.arange(len(trials)), [len(texts) for texts in windows_of])
    names = [name for name in schema.names if name not in windows.column_names]
    labels = [pa.array([trial[name] for trial in trials], schema.field(name).type) for name in names]
    columns = [*(column.take(pa.array(trial_of_row)) for column in labels), *windows.select(_OF_A_WINDOW.names).columns]
    return pa.table(columns, schema=schema)


def trial_status(status: Status, rows: Sequence[Recorded], measure: Measure | None) -> Status:
    """The status for the table: a trial that ran to its end has reached the target or used up its budget."""
    if status is Status.BUDGET and measure is not None and reached(best_accuracy(rows), measure.target):
        return Status.REACHED
    return status


def _trial_row(
    labels: Mapping[str, Any], folder: TrialFolder, rows: list[Recorded], measure: Measure | None
) -> dict[str, Any]:
    """All of `TRIAL_COLUMNS`, and columns of recipe and sampler. Args: labels: sweep, method and phase."""
    config = folder.description["config"]
    last = rows[-1].row if rows else None
    row = {
        **labels,
        "trial_id": folder.path.name,
        "config_id": folder.description["config_id"],
        "seed": config["seed"],
        "dataset": config["dataset"]["name"],
        "pair": f"{name_of(config['teacher'])}->{config['student']}",
        "configuration": folder.description["configuration"],
        "status": trial_status(folder.status, rows, measure).value,
        "tta_ref_s": time_to_target(rows, measure.target) if measure else math.inf,
        "last_cost_ref_s": last.cost_ref_s if last else 0.0,
        "best_val_accuracy": best_accuracy(rows),
        "wall_s": last.wall_s if last else 0.0,
        "num_evaluations": len(rows),
        "ended_at": rows[-1].recorded_at if rows else math.nan,
        "loss": _in_words(config["loss"]),
        "ce_weight": config["ce_weight"],
        "kd_weight": config["kd_weight"],
        "precision": config["precision"],
        "threads": config["threads"],
        "device": last.device if last else "",
        "calibration_id": last.calibration_id if last else "",
        "error": folder.error,
        **{f"sampler.{name}": _plain(value) for name, value in config["sampler"].items()},
    }
    missing = set(TRIAL_COLUMNS) - set(row)
    assert not missing, f"trials.parquet lacks {missing}"
    return row


def _without_teacher_s(recorded: Recorded, calibrations: Mapping[str, Calibration]) -> float | None:
    """The row's cost with a cached teacher, None if its prices are not known."""
    calibration = calibrations.get(recorded.row.calibration_id)
    return None if calibration is None else without_teacher_s(recorded.ledger, calibration)


def _of_price_rounds(
    rows: Sequence[Recorded], measure: Measure | None, calibrations: Mapping[str, Calibration]
) -> dict[str, float]:
    """The cost of the trial's work at the prices of each round alone, divided by its cost: at its hit or its end."""
    if not rows:
        return {}
    hits = (each for each in rows if measure and reached(each.row.val_accuracy, measure.target))
    recorded = next(hits, rows[-1])
    calibration, cost_ref_s = calibrations.get(recorded.row.calibration_id), recorded.row.cost_ref_s
    if calibration is None or not cost_ref_s > 0:
        return {}
    return {
        f"{PRICE_ROUND}{number}": priced(recorded.ledger, of_round)[0] / cost_ref_s
        for number, of_round in enumerate(calibration.of_rounds, start=1)
    }


def _settings(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of a trial by dotted names, without the sampler's, which `_trial_row` has."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and "name" not in value:
            flat |= _settings(value, f"{prefix}{key}.")
        # An empty list is the same as a key that earlier versions did not have.
        elif key not in ("seed", "sampler") and value != []:
            flat[f"{prefix}{key}"] = value if isinstance(value, int | float | str | None) else _in_words(value)
    return flat


def _in_words(part: dict[str, Any] | list[Any]) -> str:
    """A part with its parameters, a teacher, a list of either, or a list of plain values, as one line."""
    if isinstance(part, dict):
        if "model" in part:
            return str(part["model"])
        return " ".join([str(part["name"]), *(f"{key} {value}" for key, value in part.items() if key != "name")])
    if all(isinstance(each, dict) for each in part):
        return " + ".join(map(_in_words, part))
    return str(_plain(part))


def _plain(value: Any) -> Any:
    """A value that fits into a column: a list becomes text."""
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, list) else value
