"""Other targets: a sweep seen at another one, the ratio against the target, and how uncertain the target itself is."""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analysis import wording
from analysis.findings.summary import deciding_phase, fastest, level_of
from analysis.statistics.censoring import Bounds, bounds
from analysis.statistics.compare import Comparison, compare
from analysis.time_to_accuracy import times_to_accuracies
from kdas.errors import UserError
from kdas.records import Measure, Status

# The range of the picture, as parts of the baseline's best accuracy.
LOWEST, HIGHEST, NUM_TARGETS = 0.95, 0.995, 46
# Up to this many seeds, all resamples are counted; beyond, the normal approximation of a median's error is used.
_MAX_ENUMERATED = 6
_MEDIAN_TO_MEAN = math.sqrt(math.pi / 2)
_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
_NO_CURVE: _Curve = (np.empty(0), np.empty(0))


def at_target(
    curves: pd.DataFrame, trials: pd.DataFrame, measure: Measure, target: float
) -> tuple[pd.DataFrame, Measure]:
    """Trial table and measure with another target. Nothing is trained: a trial that was stopped is a bound there.

    Raises: UserError: if the target is no fraction.
    """
    if not 0 < target <= 1:
        raise UserError(f"target: expected a fraction in (0, 1], got {target:g}. Write 0.95 for 95%.")
    hits = {
        trial_id: float(times_to_accuracies(cost, accuracy, [target])[0])
        for trial_id, (cost, accuracy) in _curves_of(curves, measure).items()
    }
    times_s = trials["trial_id"].map(hits).fillna(np.inf)
    ended = trials["status"].isin([Status.REACHED, Status.BUDGET])
    statuses = np.where(np.isfinite(times_s), Status.REACHED.value, Status.BUDGET.value)
    rule = f"given for this report; the sweep's own target is {wording.goal(measure.target)}"
    return (
        trials.assign(tta_ref_s=times_s, status=trials["status"].mask(ended, pd.Series(statuses, trials.index))),
        replace(measure, target=target, target_rule=rule),
    )


@dataclass(frozen=True)
class OtherTargets:
    """The trials of the deciding phase at any target: each method's fastest configuration, and all plain ones."""

    curves: pd.DataFrame
    times: pd.DataFrame
    summary: pd.DataFrame
    measure: Measure

    @functools.cached_property
    def _phase(self) -> str:
        return deciding_phase(self.summary)

    @functools.cached_property
    def _rows(self) -> pd.DataFrame:
        deciding = self.summary[self.summary["phase"] == self._phase]
        return pd.concat([fastest(deciding), deciding[deciding["is_plain"].astype(bool)]]).drop_duplicates("config_id")

    def compare(self, config_id: str, targets: Sequence[float]) -> list[Comparison]:
        """A configuration against the plain one that is fastest at each target."""
        own = self._bounds(config_id, targets)
        plain = [self._bounds(name, targets) for name in self._plain if name != config_id]
        num_configurations = int((self.summary["phase"] == self._phase).sum())
        level = level_of(self._phase, num_configurations, self.measure)
        found = []
        for place in range(len(targets)):
            reference = min((each[place] for each in plain), key=_mean_upper_s, default={})
            found.append(compare(reference, own[place], level=level, with_p=False))
        return found

    def picture(self) -> pd.DataFrame:
        """Ratios at targets from `LOWEST` to `HIGHEST` of the baseline's best accuracy.

        Returns: `method`, `config_id`, `target`, `ratio`, `low`, `high`, one row per method that is not plain and
            target; no rows without a baseline.
        """
        of_baseline = self.times[(self.times["method"] == self.measure.baseline) & (self.times["phase"] == self._phase)]
        best = of_baseline["best_accuracy"].median()
        columns = ["method", "config_id", "target", "ratio", "low", "high"]
        if math.isnan(best) or not self._plain:
            return pd.DataFrame(columns=columns)
        targets = np.linspace(LOWEST * best, HIGHEST * best, NUM_TARGETS).tolist()
        rows = [
            (row["method"], row["config_id"], target, found.ratio, found.ratio_low, found.ratio_high)
            for row in self._rows[~self._rows["is_plain"].astype(bool)].to_dict("records")
            for target, found in zip(targets, self.compare(str(row["config_id"]), targets), strict=True)
        ]
        return pd.DataFrame(rows, columns=columns)

    @functools.cached_property
    def _plain(self) -> list[str]:
        return [str(each) for each in self._rows.loc[self._rows["is_plain"].astype(bool), "config_id"]]

    def _bounds(self, config_id: str, targets: Sequence[float]) -> list[dict[int, Bounds]]:
        """Bounds by seed, for each target."""
        own = self.times[(self.times["config_id"] == config_id) & (self.times["phase"] == self._phase)]
        found: list[dict[int, Bounds]] = [{} for _ in targets]
        for trial in own[own["status"] != Status.RUNNING].to_dict("records"):
            cost, accuracy = self._curves.get(str(trial["trial_id"]), _NO_CURVE)
            hits, gaps = _hits(cost, accuracy, targets)
            status = Status.BUDGET if trial["status"] == Status.REACHED else Status(str(trial["status"]))
            for place, (hit_s, gap_s) in enumerate(zip(hits.tolist(), gaps.tolist(), strict=True)):
                bound = bounds(status, hit_s, trial["last_cost_ref_s"], self.measure.budget_ref_s, gap_s=gap_s)
                found[place][int(trial["seed"])] = replace(bound, price_rounds=trial["price_rounds"])
        return found

    @functools.cached_property
    def _curves(self) -> dict[str, _Curve]:
        return _curves_of(self.curves, self.measure)


def _curves_of(curves: pd.DataFrame, measure: Measure) -> dict[str, _Curve]:
    """Costs and deciding accuracies of each trial."""
    cost, accuracy = (curves[name].to_numpy(dtype=float) for name in ("cost_ref_s", measure.deciding_column))
    places = curves.groupby("trial_id", sort=False).indices
    return {str(trial_id): (cost[where], accuracy[where]) for trial_id, where in places.items()}


def _mean_upper_s(trials: dict[int, Bounds]) -> float:
    return math.fsum(bound.upper_s for bound in trials.values()) / len(trials) if trials else math.inf


def _hits(
    cost: NDArray[np.float64], accuracy: ArrayLike, targets: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times to many targets [T], and the gaps before them [T]."""
    hits = times_to_accuracies(cost, accuracy, targets)
    places = np.searchsorted(cost, hits, side="left")
    before = np.concatenate([[0.0], cost])[places]
    return hits, np.where(np.isfinite(hits), hits - before, 0.0)


def target_deviation(times: pd.DataFrame, measure: Measure) -> float:
    """The standard deviation of a target that is a fraction of the baseline's median best accuracy; NaN for others.

    Another draw of the baseline's seeds would have given another target.
    """
    of_fraction = re.match(r"(\d?\.?\d+) of the ", measure.target_rule)
    is_own = (times["method"] == measure.baseline) & (times["phase"] == "search") & times["seed"].isin(measure.seeds)
    best = times.loc[is_own, "best_accuracy"].dropna().to_numpy(dtype=float)
    if of_fraction is None or len(best) < 2:
        return math.nan
    if len(best) > _MAX_ENUMERATED:
        return float(of_fraction[1]) * _MEDIAN_TO_MEAN * float(best.std(ddof=1)) / math.sqrt(len(best))
    medians = np.median(best[np.array(list(itertools.product(range(len(best)), repeat=len(best))))], axis=1)
    return float(of_fraction[1]) * float(medians.std())
