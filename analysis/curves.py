"""Load a sweep directory: the curve table, the trial table, and what the sweep measures.

All reports start here. A file that is missing, truncated or of another shape is rejected by name, so it cannot turn
into a wrong number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.record.measure import load_measure
from kdas.errors import UserError, alike, make_command
from kdas.records import (
    CURVE_COLUMNS,
    CURVE_KINDS,
    LATER_COLUMNS,
    PRICE_ROUND,
    TRIAL_COLUMNS,
    TRIAL_KINDS,
    WITHOUT_TEACHER,
    Measure,
    Status,
)

__all__ = ["PHASES", "TRIAL_COLUMNS", "Measure", "load", "load_measure", "load_trials"]

PHASES = ("search", "confirm")


# Free text may be empty; every other text column is a key or a name.
_MAY_BE_EMPTY = frozenset({"configuration", "error"})


def load(sweep_directory: Path | str, *more: Path | str) -> pd.DataFrame:
    """The curve table: one row per evaluation, ordered by trial and step.

    A resumed trial repeats the steps since its checkpoint: of two rows with the same step, the later one is kept.
    Several sweeps are concatenated; the column `sweep` tells them apart.

    Returns: a frame with the columns `kdas.records.CURVE_COLUMNS`, and `WITHOUT_TEACHER` if it was recorded; accuracies
        are fractions, `*_s` seconds; NaN where the version that recorded a row did not measure a column.
    Raises: UserError: if curves.parquet is missing, truncated, lacks a column, has a column of another type, an
        accuracy that is no fraction, or a trial whose cost is negative or falls.
    """
    if more:
        return pd.concat([load(each) for each in (sweep_directory, *more)], ignore_index=True)
    path = _existing(Path(sweep_directory), "curves.parquet")
    written = _read(path)
    curves = _checked(_with_later_columns(written), CURVE_KINDS, path)[list(CURVE_COLUMNS)]
    if WITHOUT_TEACHER in written:
        curves[WITHOUT_TEACHER] = _column(written[WITHOUT_TEACHER], "float", path)
    _refuse_unknown(curves, "phase", PHASES, path)
    latest = curves.drop_duplicates(["trial_id", "step"], keep="last")
    ordered = latest.sort_values(["trial_id", "step"], kind="stable").reset_index(drop=True)
    _refuse_impossible(ordered, path)
    return ordered


def _with_later_columns(curves: pd.DataFrame) -> pd.DataFrame:
    """The table of an earlier version with the columns that it lacks, which are empty."""
    return curves.assign(**{name: np.nan for name in LATER_COLUMNS if name not in curves})


def _refuse_impossible(curves: pd.DataFrame, path: Path) -> None:
    """Costs that are negative, fall or are not finite, and accuracies that are no fractions. NaN accuracies may be."""
    cost = curves["cost_ref_s"]
    is_first = curves["trial_id"] != curves["trial_id"].shift()
    faults = {
        "cost_ref_s": (
            (~np.isfinite(cost), "finite numbers"),
            (cost < 0, "costs of 0 or more"),
            (~is_first & (cost < cost.shift()), "a total that does not fall"),
        ),
        **{
            name: ((~curves[name].between(0, 1) & curves[name].notna(), "fractions in [0, 1]"),)
            for name in ("val_accuracy", "test_accuracy", "test_top5", "test_agreement")
        },
    }
    for name, checks in faults.items():
        for is_wrong, expected in checks:
            if is_wrong.any():
                row = curves[is_wrong].iloc[0]
                found = f"got {row[name]:g} at step {row['step']} of {row['trial_id']}"
                remedy = f"{_again()[:-1]}, or give each attempt of a trial a trial_id of its own."
                if name != "cost_ref_s":
                    remedy = "Divide percentages by 100."
                elif expected == "finite numbers":
                    remedy = _again()
                raise UserError(f"{path}: column {name}: expected {expected}, {found}. {remedy}")


def load_trials(sweep_directory: Path | str) -> pd.DataFrame:
    """The trial table: one row per trial, with its status and settings.

    Returns: a frame with the columns `TRIAL_COLUMNS`, then `sampler.<parameter>` and every other setting in which
        trials differ. `tta_ref_s` is inf if the target was not reached; `ended_at` is in seconds since 1970.
    Raises: UserError: as `load`, for trials.parquet, and for an unknown status or phase.
    """
    path = _existing(Path(sweep_directory), "trials.parquet")
    trials = _checked(_read(path), TRIAL_KINDS, path)
    _refuse_unknown(trials, "status", tuple(Status), path)
    _refuse_unknown(trials, "phase", PHASES, path)
    rounds = [name for name in trials.columns if name.startswith(PRICE_ROUND)]
    trials[rounds] = trials[rounds].astype("float64")
    settings = [name for name in trials.columns if name not in TRIAL_COLUMNS]
    # No recorded time means that the trial did not reach the target.
    trials["tta_ref_s"] = trials["tta_ref_s"].fillna(np.inf)
    latest = trials.drop_duplicates("trial_id", keep="last")
    return latest[[*TRIAL_COLUMNS, *settings]].reset_index(drop=True)


def _existing(sweep_directory: Path, name: str) -> Path:
    if not sweep_directory.is_dir():
        siblings = [entry.name for entry in sweep_directory.parent.glob("*/")]
        near = alike(sweep_directory.name, siblings)
        hint = f"Did you mean {sweep_directory.parent / near[0]}?" if near else "Give the sweep's own directory."
        raise UserError(f"{sweep_directory}: no such sweep directory. {hint}")
    path = sweep_directory / name
    if not path.is_file():
        raise UserError(
            f"{path}: missing file. A sweep writes it when it ends. Until then run "
            f"{make_command('report', sweep_directory.name)}."
        )
    return path


def _read(path: Path) -> pd.DataFrame:
    try:
        # Without this, pandas reads a directory named "name=value" as an extra column.
        return pd.read_parquet(path, engine="pyarrow", partitioning=None)
    except (ValueError, NotImplementedError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read as Parquet; it may be truncated ({reason}). "
            f"Run {make_command('report')} to rebuild it from the trials' rows."
        ) from error


def _checked(frame: pd.DataFrame, kinds: Mapping[str, str], path: Path) -> pd.DataFrame:
    missing = [name for name in kinds if name not in frame.columns]
    if missing:
        raise UserError(
            f"{path}: missing columns: {', '.join(missing)}. "
            f"Another version wrote this file. Run {make_command('report')} to rebuild it."
        )
    converted = {name: _column(frame[name], kind, path) for name, kind in kinds.items()}
    return frame.assign(**converted)


def _column(values: pd.Series, kind: str, path: Path) -> pd.Series:
    """The column in its type: text as str, counts as int64, measurements as float64."""
    if kind == "str":
        return _texts(values, path)
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if not is_number and not values.isna().all():
        raise UserError(f"{path}: column {values.name}: expected numbers, got {values.dtype}. {_again()}")
    measured = pd.to_numeric(values).astype("float64")
    if kind == "float":
        return measured
    if measured.isna().any():
        raise UserError(f"{path}: column {values.name}: expected whole numbers, got empty cells. {_again()}")
    return values.astype("int64")


def _again() -> str:
    return f"Run {make_command('report')} again."


def _texts(values: pd.Series, path: Path) -> pd.Series:
    is_text = pd.api.types.is_string_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype)
    if not is_text and not values.isna().all():
        raise UserError(f"{path}: column {values.name}: expected text, got {values.dtype}. {_again()}")
    if values.isna().any() and values.name not in _MAY_BE_EMPTY:
        raise UserError(f"{path}: column {values.name}: expected a name in each row, got empty cells. {_again()}")
    return values.astype("str").where(values.notna(), "").astype("str")


def _refuse_unknown(frame: pd.DataFrame, column: str, known: tuple[str, ...], path: Path) -> None:
    for value in frame[column].unique():
        if value not in known:
            raise UserError(
                f"{path}: {column}: expected one of {', '.join(known)}, got {value!r}. Run the sweep again."
            )
