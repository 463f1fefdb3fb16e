"""Which searched parameters decide the time to the target, and how certain that order is.

PED-ANOVA compares the distribution of a parameter among the best configurations with that among all. It needs
configurations drawn independently of results. A search that learns draws more where it found good ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import optuna
import pandas as pd
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from analysis import wording
from analysis.findings.parameters import VariedParameter, choices_of, searched_configurations, varied_parameters
from kdas.errors import UserError
from kdas.records import Measure, Status

# Otherwise Optuna logs every study.
optuna.logging.set_verbosity(optuna.logging.WARNING)

Floats = NDArray[np.float64]

# Algorithms that propose independently of results.
DRAWS_AT_RANDOM = ("random", "grid", "brute_force")
# With fewer, the best quantile holds too few configurations.
MIN_CONFIGURATIONS = 10
NUM_RESAMPLES = 200
# Optuna drops infinite values, and at one budget a miss would equal a late hit. Ten budgets rank it behind every hit.
MISS_FACTOR = 10.0


def importance(
    times: pd.DataFrame, trials: pd.DataFrame, measure: Measure, *, generator: np.random.Generator
) -> pd.DataFrame:
    """Importance of each searched parameter for the mean time to the target, with bootstrapped ranks.

    Args: times: of `analysis.findings.trial_times.trial_times`; trials: the trial table, for the settings; generator:
        draws the resamples of configurations.
    Returns: the most important first: `parameter`, `importance` (shares that sum to 1), `rank`, and `rank_low` and
        `rank_high`, the range of the rank in 95% of the resamples.
    Raises: UserError: if the search learned from results, varied fewer than two parameters, or tried too few.
    """
    if measure.algorithm not in DRAWS_AT_RANDOM:
        drawn = measure.algorithm or "unknown"
        raise UserError(
            f"The search algorithm is {drawn}, but importance needs configurations drawn independently of results. "
            "Run a sweep with algorithm: random."
        )
    configurations = searched_configurations(trials)
    value_s = _values(times, measure).reindex(configurations.index).dropna()
    configurations = configurations.loc[value_s.index]
    parameters = varied_parameters(configurations, measure.log_parameters)
    if len(parameters) < 2:
        raise UserError(f"The search varied {wording.plural(len(parameters), 'parameter')}; ranking needs two or more.")
    if len(configurations) < MIN_CONFIGURATIONS:
        raise UserError(
            f"Only {wording.plural(len(configurations), 'configuration')} ended; importance needs "
            f"{MIN_CONFIGURATIONS} or more."
        )
    if value_s.nunique() < 2:
        raise UserError("All configurations took the same time or missed the target, so nothing tells them apart.")
    names, study = [parameter.name for parameter in parameters], _Drawn()
    tried = _as_trials(configurations, value_s, parameters)
    shares = _shares(study, tried, range(len(tried)), names)
    ranks = [
        _ranks(_shares(study, tried, generator.integers(0, len(tried), len(tried)).tolist(), names))
        for _ in range(NUM_RESAMPLES)
    ]
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    table = pd.DataFrame(
        {"parameter": names, "importance": shares, "rank": _ranks(shares), "rank_low": low, "rank_high": high}
    )
    return table.sort_values("rank", ignore_index=True, kind="stable")


def _values(times: pd.DataFrame, measure: Measure) -> pd.Series:
    """The mean time to the target of each searched configuration, a miss at ten budgets; index config_id.

    A configuration has no value while a seed of it runs or crashed before the target. A trial stopped early was slow
    and counts as a miss.
    """
    searched = times[times["phase"] == "search"]
    is_unknown = searched["status"].isin([Status.CRASHED, Status.RUNNING]) & ~searched["reached"].astype(bool)
    known = searched[~is_unknown.groupby(searched["config_id"]).transform("any").astype(bool)]
    time_s = known["tta_ref_s"].where(np.isfinite(known["tta_ref_s"]), MISS_FACTOR * measure.budget_ref_s)
    return time_s.groupby(known["config_id"]).mean()


class _Drawn(optuna.Study):
    """A study of existing trials; adding resamples to a normal study would deep-copy every trial."""

    def __init__(self) -> None:
        storage = optuna.storages.InMemoryStorage()
        storage.create_new_study([StudyDirection.MINIMIZE], "drawn")
        super().__init__("drawn", storage)
        self.drawn: list[FrozenTrial] = []

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self.drawn


def _shares(study: _Drawn, tried: list[dict[str, Any]], chosen: Sequence[int], names: list[str]) -> Floats:
    """Importances [P] of the parameters over the chosen trials, which may repeat; all 0 if all tie."""
    now = datetime.now(UTC)
    # Optuna identifies trials by number, so a trial drawn twice needs two numbers.
    study.drawn = [
        FrozenTrial(
            number=number, trial_id=number, state=TrialState.COMPLETE, datetime_start=now, datetime_complete=now,
            user_attrs={}, system_attrs={}, intermediate_values={}, **tried[index],
        )
        for number, index in enumerate(chosen)
    ]  # fmt: skip
    with warnings.catch_warnings():
        # Optuna warns about ties in a resample; the ranks show them anyway.
        warnings.filterwarnings("ignore", "Target and region quantiles")
        found = PedAnovaImportanceEvaluator().evaluate(study, params=names)
    shares = np.array([max(found.get(name, 0.0), 0.0) for name in names])
    return shares / shares.sum() if shares.sum() > 0 else shares


def _as_trials(
    configurations: pd.DataFrame, value_s: pd.Series, parameters: list[VariedParameter]
) -> list[dict[str, Any]]:
    """Each configuration in Optuna's form: its settings, their distributions, and its value."""
    distributions = {each.name: _distribution(configurations, each) for each in parameters}
    settings = configurations[[each.column for each in parameters]].to_dict("records")
    tried = []
    for row, value in zip(settings, value_s, strict=True):
        # "none" is a choice of the parameter; a conditional parameter may be absent.
        said = {
            each: "none" if pd.isna(row[each.column]) else row[each.column]
            for each in parameters
            if not pd.isna(row[each.column]) or "none" in getattr(distributions[each.name], "choices", ())
        }
        tried.append(
            {
                "params": {each.name: (float if each.is_number else str)(set_to) for each, set_to in said.items()},
                "distributions": {each.name: distributions[each.name] for each in said},
                "value": float(value),
            }
        )
    return tried


def _distribution(configurations: pd.DataFrame, parameter: VariedParameter) -> BaseDistribution:
    if parameter.is_number:
        values = configurations[parameter.column].astype("float64")
        return FloatDistribution(float(values.min()), float(values.max()), log=parameter.is_log)
    return CategoricalDistribution(choices_of(configurations, parameter))


def _ranks(shares: Floats) -> Floats:
    """Ranks [P] from 1, the largest share first; equal shares get their average rank."""
    return np.asarray(stats.rankdata(-shares, method="average"), dtype=float)
