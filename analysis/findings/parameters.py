"""What a search varied: the columns of the trial table in which configurations differ, and their scales."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdas.records import PRICE_ROUND, TRIAL_COLUMNS, is_searched

_SAMPLER = "sampler."


@dataclass(frozen=True)
class VariedParameter:
    """One varied parameter: column, displayed name, whether it is a number, and whether its axis is logarithmic."""

    column: str
    name: str
    is_number: bool
    is_log: bool


def searched_configurations(trials: pd.DataFrame) -> pd.DataFrame:
    """One row per searched configuration, with all its settings; index config_id."""
    searched = trials[trials["method"].map(is_searched) & (trials["phase"] == "search")]
    return searched.drop_duplicates("config_id").set_index("config_id")


def varied_parameters(configurations: pd.DataFrame, log_parameters: Collection[str] = ()) -> list[VariedParameter]:
    """The parameters in which configurations differ, in the order of their columns.

    Args: configurations: of `searched_configurations`; log_parameters: names of those searched on a log scale.
    """
    on_log = {name.lower().rpartition(".")[2] for name in log_parameters}
    found = []
    for column in map(str, configurations.columns):
        values = _choices(configurations, column).replace([np.inf, -np.inf], np.nan)
        if column in TRIAL_COLUMNS or column.startswith(PRICE_ROUND) or values.dropna().astype(str).nunique() < 2:
            continue
        is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        is_log = is_number and column.lower().rpartition(".")[2] in on_log and float(values.min()) > 0
        found.append(VariedParameter(column, _name(column, configurations), is_number, is_log))
    return found


def _choices(configurations: pd.DataFrame, column: str) -> pd.Series:
    """A column's values; "none" is a value too if the search chose between one value and none."""
    values = configurations[column]
    if values.dropna().astype(str).nunique() != 1 or not values.isna().any():
        return values
    samplers = configurations.get("sampler.name", pd.Series("", configurations.index))
    has_both = values.isna().groupby(samplers).nunique().max() > 1
    return values.astype("object").where(values.notna(), "none").astype(str) if has_both else values


def positions(configurations: pd.DataFrame, parameter: VariedParameter) -> pd.Series:
    """Each configuration's position on a parameter's axis, in [0, 1]; NaN if it has no such setting."""
    values = _choices(configurations, parameter.column)
    if parameter.is_number:
        numbers = values.astype("float64")
        scaled = pd.Series(np.log(numbers), numbers.index) if parameter.is_log else numbers
        return (scaled - scaled.min()) / (scaled.max() - scaled.min())
    choices = choices_of(configurations, parameter)
    place = {choice: index / (len(choices) - 1) for index, choice in enumerate(choices)}
    return values.map(lambda value: np.nan if pd.isna(value) else place[str(value)])


def choices_of(configurations: pd.DataFrame, parameter: VariedParameter) -> list[str]:
    """The values of a parameter that is not a number, in the order of its axis."""
    return sorted(_choices(configurations, parameter.column).dropna().astype(str).unique())


def _name(column: str, configurations: pd.DataFrame) -> str:
    """Without `sampler.`, unless another column has that name."""
    short = column.removeprefix(_SAMPLER)
    return column if short != column and short in configurations.columns else short
