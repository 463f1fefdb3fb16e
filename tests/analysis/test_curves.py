"""Loading a sweep directory: what is read, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.curves import load, load_measure, load_trials
from kdas.errors import UserError
from kdas.records import CURVE_COLUMNS, LATER_COLUMNS, TRIAL_COLUMNS


def test_curves_have_exactly_the_columns_of_the_contract(sweep_directory: Path) -> None:
    assert tuple(load(sweep_directory).columns) == CURVE_COLUMNS


def test_of_a_repeated_step_the_latest_attempt_wins(sweep_directory: Path) -> None:
    path = sweep_directory / "curves.parquet"
    written = pd.read_parquet(path)
    again = written[(written["trial_id"] == "c-plain-0") & (written["step"] >= 300)].assign(val_accuracy=0.123)
    pd.concat([written, again]).to_parquet(path)
    curve = load(sweep_directory).query("trial_id == 'c-plain-0'")
    assert curve["step"].is_monotonic_increasing and curve["step"].is_unique
    assert set(curve.loc[curve["step"] >= 300, "val_accuracy"]) == {0.123}
    assert (curve.loc[curve["step"] < 300, "val_accuracy"] != 0.123).all()


def test_a_column_without_any_value_is_read_as_missing_numbers(sweep_directory: Path) -> None:
    path = sweep_directory / "curves.parquet"
    pd.read_parquet(path).assign(test_accuracy=None).to_parquet(path)
    assert load(sweep_directory)["test_accuracy"].dtype == "float64"


def test_table_of_an_earlier_version_lacks_the_later_columns(sweep_directory: Path) -> None:
    path = sweep_directory / "curves.parquet"
    pd.read_parquet(path).drop(columns=list(LATER_COLUMNS)).to_parquet(path)
    curves = load(sweep_directory)
    assert tuple(curves.columns) == CURVE_COLUMNS
    assert curves[list(LATER_COLUMNS)].isna().all(axis=None)


def test_a_sweep_directory_named_like_a_partition_gains_no_column(new_sweep: Callable[..., Path], plan: Any) -> None:
    directory = new_sweep(plan([0]))
    renamed = directory.rename(directory.with_name("step=3"))
    assert tuple(load(renamed).columns) == CURVE_COLUMNS


@pytest.mark.parametrize("name", ["curves.parquet", "trials.parquet", "measure.json"])
def test_a_missing_file_is_named(sweep_directory: Path, name: str) -> None:
    (sweep_directory / name).unlink()
    read = {"curves.parquet": load, "trials.parquet": load_trials, "measure.json": load_measure}[name]
    with pytest.raises(UserError, match=rf"{name}: missing file\. (Run the|A) sweep"):
        read(sweep_directory)


@pytest.mark.parametrize("length", [0, 3, 2000])
def test_a_truncated_file_is_named_with_its_remedy(sweep_directory: Path, length: int) -> None:
    path = sweep_directory / "curves.parquet"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"curves\.parquet: cannot be read as Parquet.*Run make report"):
        load(sweep_directory)


def test_a_missing_column_is_named(sweep_directory: Path) -> None:
    path = sweep_directory / "curves.parquet"
    pd.read_parquet(path).drop(columns=["cost_ref_s"]).to_parquet(path)
    with pytest.raises(UserError, match=r"curves\.parquet: missing columns: cost_ref_s"):
        load(sweep_directory)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("val_accuracy", "high", "column val_accuracy: expected numbers, got str"),
        ("step", None, "column step: expected whole numbers, got empty cells"),
        ("trial_id", 7, "column trial_id: expected text, got int64"),
        ("phase", "serach", "phase: expected one of search, confirm, got 'serach'. Run the sweep again."),
    ],
)
def test_a_column_of_another_type_is_named(sweep_directory: Path, column: str, value: object, message: str) -> None:
    path = sweep_directory / "curves.parquet"
    pd.read_parquet(path).assign(**{column: value}).to_parquet(path)
    with pytest.raises(UserError, match=message):
        load(sweep_directory)


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        (
            "val_accuracy",
            lambda values: values * 100,
            r"val_accuracy: expected fractions in \[0, 1\], got .*100\.",
        ),
        ("test_accuracy", lambda values: values - 1, r"column test_accuracy: expected fractions in \[0, 1\], got -"),
        (
            "cost_ref_s",
            lambda values: values - 5,
            r"cost_ref_s: expected costs of 0 or more, got -1 at step 10 of",
        ),
        ("cost_ref_s", lambda values: 200 - values, r"column cost_ref_s: expected a total that does not fall, got 192"),
        ("cost_ref_s", lambda values: values / 0, r"column cost_ref_s: expected finite numbers, got inf at step 10"),
    ],
)
def test_numbers_that_cannot_be_are_refused(
    sweep_directory: Path, column: str, change: Callable[[pd.Series], pd.Series], message: str
) -> None:
    path = sweep_directory / "curves.parquet"
    curves = pd.read_parquet(path)
    curves.assign(**{column: change(curves[column])}).to_parquet(path)
    with pytest.raises(UserError, match=message):
        load(sweep_directory)


def test_an_unknown_status_is_named_with_the_known_ones(sweep_directory: Path) -> None:
    path = sweep_directory / "trials.parquet"
    pd.read_parquet(path).assign(status="reachd").to_parquet(path)
    with pytest.raises(UserError, match=r"status: expected one of running, reached, budget, .*, got 'reachd'"):
        load_trials(sweep_directory)


def test_the_trial_table_keeps_the_samplers_parameters(sweep_directory: Path) -> None:
    assert tuple(load_trials(sweep_directory).columns) == (*TRIAL_COLUMNS, "sampler.start_rate")


def test_a_mistyped_sweep_gets_the_nearest_name(sweep_directory: Path) -> None:
    with pytest.raises(UserError, match=r"no such sweep directory\. Did you mean .*digits"):
        load(sweep_directory.with_name("digit"))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("target", 90, r"target: expected a fraction in \(0, 1\], got 90"),
        ("target", None, "target: expected a number, got None"),
        ("tau_ref_s", 0, "tau_ref_s: expected reference seconds above 0, got "),
        ("split", "valid", "split: expected validation or test, got 'valid'"),
        ("seeds", "0,1", "seeds: expected a list of whole numbers, got '0,1'"),
    ],
)
def test_a_term_out_of_its_range_is_named(sweep_directory: Path, key: str, value: object, message: str) -> None:
    path = sweep_directory / "measure.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(UserError, match=message):
        load_measure(sweep_directory)


def test_half_a_measure_file_is_refused(sweep_directory: Path) -> None:
    path = sweep_directory / "measure.json"
    path.write_text(path.read_text()[:30])
    with pytest.raises(UserError, match=r"measure\.json: not valid JSON"):
        load_measure(sweep_directory)
