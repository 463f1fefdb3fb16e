"""What a search varied: the columns of the trial table in which its configurations differ, and their scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.curves import TRIAL_COLUMNS
from kdas.records import is_searched

# A positive parameter whose values span this factor is read by its logarithm, as searches usually draw it.
LOG_SPAN = 100.0
_SAMPLER = "sampler."


@dataclass(frozen=True)
class Parameter:
    """One varied parameter: its column, how it is shown, and whether it is a number, and on a log axis."""

    column: str
    name: str
    is_number: bool
    is_log: bool


def searched_configurations(trials: pd.DataFrame) -> pd.DataFrame:
    """One row a searched configuration, with all its settings; index config_id."""
    searched = trials[trials["method"].map(is_searched) & (trials["phase"] == "search")]
    return searched.drop_duplicates("config_id").set_index("config_id")


def varied_parameters(configurations: pd.DataFrame) -> list[Parameter]:
    """The parameters in which configurations differ, in the order of their columns.

    Args: configurations: rows of the trial table, as `searched_configurations` gives them.
    """
    found = []
    for column in configurations.columns:
        values = configurations[column].dropna()
        if column in TRIAL_COLUMNS or values.astype(str).nunique() < 2:
            continue
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        found.append(Parameter(column, _name(str(column), configurations), is_number, is_number and _spans(values)))
    return found


def positions(configurations: pd.DataFrame, parameter: Parameter) -> pd.Series:
    """Where each configuration stands on a parameter's axis, in [0, 1]; NaN where it has no such setting."""
    values = configurations[parameter.column]
    if parameter.is_number:
        numbers = values.astype("float64")
        scaled = pd.Series(np.log(numbers), numbers.index) if parameter.is_log else numbers
        return (scaled - scaled.min()) / (scaled.max() - scaled.min())
    choices = sorted(values.dropna().astype(str).unique())
    place = {choice: index / (len(choices) - 1) for index, choice in enumerate(choices)}
    return values.map(lambda value: np.nan if pd.isna(value) else place[str(value)])


def _name(column: str, configurations: pd.DataFrame) -> str:
    """Without `sampler.`, unless another column has that very name."""
    short = column.removeprefix(_SAMPLER)
    return column if short != column and short in configurations.columns else short


def _spans(values: pd.Series) -> bool:
    low, high = float(values.min()), float(values.max())
    return low > 0 and high / low >= LOG_SPAN
