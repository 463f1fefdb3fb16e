"""The summary table: one row per configuration. Terminal, report and notebooks all show these numbers."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import wording
from analysis.findings.groups import Group, Trials, bounds_of, groups_of, nobody, trials_by_seed
from analysis.findings.trial_times import INDICATORS
from analysis.statistics.binomial import share_interval
from analysis.statistics.censoring import mean_bounds
from analysis.statistics.compare import Comparison, compare
from analysis.statistics.interval import LEVEL
from analysis.statistics.verdict import simultaneous_level
from kdas.records import Measure, Status, is_searched

# A fixed seed, so that the same curves always give the same interval.
RESAMPLING_SEED = 0

_GROUP = ["phase", "method", "configuration", "config_id"]
_MEDIANS = {
    "tta_ref_s": "tta_ref_s",
    "tta_at_least_s": "tta_at_least_s",
    "tta_linear_s": "tta_linear_s",
    "tta_two_in_a_row_s": "tta_two_in_a_row_s",
    "tta_hold_to_end_s": "tta_hold_to_end_s",
    "best_accuracy": "best_accuracy",
    "test_accuracy_at_hit": "test_accuracy_at_hit",
    **{name: name for name in INDICATORS.values()},
}
# Other cost axes on which configurations are compared if both reached the target.
COST_RATIOS = {
    "as_run": "as_run_s_at_hit",
    "wall": "wall_s_at_hit",
    "flops": "flops_at_hit",
    "without_teacher": "without_teacher_s_at_hit",
}
_SENSITIVITIES = ("tta_linear_s", "tta_two_in_a_row_s", "tta_hold_to_end_s")
_COMPARISON = list(Comparison.__dataclass_fields__)
SUMMARY_COLUMNS = (
    *_GROUP,
    *("decides", "is_reference", "is_plain", "is_searched", "num_tuned", "epochs"),
    *("num_trials", "num_reached", "num_open", "num_running", "reached_low", "reached_high"),
    *("mean_lower_s", "mean_upper_s", "variation"),
    *_MEDIANS,
    *("final_test_accuracy", "final_test_sd", "num_final"),
    *("max_grid_gap", "max_cotenants"),
    *(f"ratio_{axis}" for axis in COST_RATIOS),
    *("ratio_without_teacher_low", "ratio_without_teacher_high"),
    *_COMPARISON,
    *wording.FULL.values(),
)


def summarize(times: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """One row per configuration and phase: phase confirm first, then by the mean upper bound of the restricted time.

    - `decides`: the row belongs to the result, see `deciding_phase`.
    - `is_reference`: the fastest plain configuration of its phase, which the others there are compared with.
    - `num_tuned`: how many configurations of its method the search tried, 0 if the method is fixed.
    - Medians are over trials. A median time is inf if half of the trials or more missed the target.
      `tta_at_least_s` counts trials of unknown time (`num_open` of them) at their last cost. `test_accuracy_at_hit` is
      over the trials that reached the target; `final_test_accuracy`, a mean, over those that ran to their end.
    - `variation`: coefficient of variation of the upper bounds over seeds.
    - `reached_low`, `reached_high`: 95% interval of the share of seeds that reach the target.
    - The columns of `analysis.statistics.compare.Comparison`: reference over candidate, paired by seed, at the
      simultaneous level of the phase. `full_*`: the same with the baseline's full schedule in place of the reference.
    - `ratio_as_run`, `ratio_wall`, `ratio_flops`, `ratio_without_teacher`: the same on other cost axes, if all trials
      reached the target.

    Args: times: of `analysis.findings.trial_times.trial_times`.
    Returns: a frame with the columns `SUMMARY_COLUMNS`; seconds are reference seconds, accuracies fractions.
    """
    searched = times[(times["phase"] == "search") & times["method"].map(is_searched).astype(bool)]
    num_tuned = searched.groupby("method")["config_id"].nunique().to_dict()
    rows = [
        row | {"num_tuned": num_tuned.get(row["method"], 0)}
        for _, of_phase in times.groupby("phase")
        for row in _rows_of_phase(of_phase, measure)
    ]
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    table["decides"] = table["phase"] == ("confirm" if _is_confirmed(times, table, measure) else "search")
    # If all missed, the configuration that came closest to the target is first.
    return table.sort_values(
        ["phase", "mean_upper_s", "best_accuracy", "config_id"], ascending=[True, True, False, True], ignore_index=True
    )


def plain_methods(measure: Measure) -> tuple[str, ...]:
    """The methods that train on every sample."""
    return measure.plain_methods or (measure.baseline,)


def level_of(phase: str, num_configurations: int, measure: Measure) -> float:
    """The two-sided level at which each comparison of a phase is read, so that all of them together keep theirs."""
    return simultaneous_level(num_configurations, measure.confirm_level if phase == "confirm" else LEVEL)


def fastest_of(times: pd.DataFrame, methods: Collection[str]) -> str | None:
    """The fastest configuration of some methods in a phase.

    Those with the most seeds come first: one lucky seed would favour nobody but itself.

    Returns: a config_id, None if they have no trial.
    """
    own = times[times["method"].isin(methods)]
    if own.empty:
        return None
    grouped = own.groupby("config_id")["upper_s"].agg(["count", "mean"])
    return str(grouped.sort_index().sort_values(["count", "mean"], ascending=[False, True], kind="stable").index[0])


def reference_name(summary: pd.DataFrame, measure: Measure) -> str:
    """What the ratios are to: the plain setting's name if it is the same in both phases."""
    rows = summary[summary["is_reference"].astype(bool)].to_dict("records")
    names = {wording.named(row) for row in rows} or {measure.baseline}
    return names.pop() if len(names) == 1 else "the fastest plain setting"


def deciding_phase(summary: pd.DataFrame) -> str:
    """The phase whose rows are the result: confirm once its finalists and baselines have ended on all seeds."""
    return "confirm" if (summary["phase"].eq("confirm") & summary["decides"].astype(bool)).any() else "search"


def _is_confirmed(times: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> bool:
    """Whether the confirmation is complete: by the sweep's record, or without one by the trials that exist."""
    confirmed = times[times["phase"] == "confirm"]
    by_phase = dict(iter(summary.groupby("phase")))
    if not len(confirmed):
        return False
    # Without a finalist or the baseline it compares less than the search does.
    for role in ("is_searched", "is_plain"):
        if "search" in by_phase and by_phase["search"][role].any() and not by_phase["confirm"][role].any():
            return False
    return _has_ended(confirmed, set(measure.confirm_seeds or confirmed["seed"]), measure)


def _has_ended(confirmed: pd.DataFrame, seeds: Collection[int], measure: Measure) -> bool:
    """Whether all that is confirmed has ended on these seeds. Args: confirmed: the times of the confirmation."""
    is_open = (confirmed["status"] == Status.RUNNING) & (confirmed["lower_s"] < confirmed["upper_s"])
    ended = confirmed[~is_open].groupby("config_id")["seed"].agg(set)
    expected = measure.confirm_configs or tuple(confirmed["config_id"].unique())
    return all(set(seeds) <= ended.get(config_id, set()) for config_id in expected)


def of_completed_looks(times: pd.DataFrame, measure: Measure) -> tuple[pd.DataFrame, Measure]:
    """Times and measure without the trials of a look that still runs, if there was a look before it.

    A confirmation may be read only at its looks: seeds between two of them would be one more reading.
    """
    confirmed = times[times["phase"] == "confirm"]
    if not measure.last_look or _has_ended(confirmed, measure.confirm_seeds, measure):
        return times, measure
    seeds = measure.confirm_seeds[: measure.last_look]
    kept = (times["phase"] != "confirm") | times["seed"].isin(seeds)
    return times[kept].reset_index(drop=True), replace(measure, confirm_seeds=seeds)


def fastest(summary: pd.DataFrame) -> pd.DataFrame:
    """Each method's fastest configuration, from the deciding phase if the method has rows there."""
    decides = summary["phase"] == deciding_phase(summary)
    return pd.concat([summary[decides], summary[~decides]]).drop_duplicates("method")


def _rows_of_phase(times: pd.DataFrame, measure: Measure) -> list[dict[str, Any]]:
    plain = plain_methods(measure)
    reference, full = fastest_of(times, plain), fastest_of(times, [measure.baseline])
    groups = groups_of(times, _GROUP)
    by_config = {key[-1]: group for key, group in groups.items()}
    of_reference, of_full = (by_config.get(config_id, nobody(times)) for config_id in (reference, full))
    bounds_of_reference, bounds_of_full = trials_by_seed(of_reference), trials_by_seed(of_full)
    level = level_of(str(times["phase"].iloc[0]), len(groups), measure)
    rows = []
    for key, group in groups.items():
        trials = trials_by_seed(group)
        # The reference compared with itself is 1 by definition and has no interval.
        own = {} if key[-1] == reference else trials
        compared = compare(bounds_of_reference, own, level=level, generator=np.random.default_rng(RESAMPLING_SEED))
        with_full = compared
        if full != reference:
            with_full = compare(bounds_of_full, {} if key[-1] == full else trials, level=level, with_p=False)
        rows.append(
            dict(zip(_GROUP, key, strict=True))
            | {"is_reference": key[-1] == reference, "is_plain": key[1] in plain, "decides": False}
            | _counts_and_means(group)
            | asdict(compared)
            | {name: getattr(with_full, field) for field, name in wording.FULL.items()}
            | {f"ratio_{axis}": _ratio_at_hit(of_reference, group, column) for axis, column in COST_RATIOS.items()}
        )
        rows[-1] |= _interval_without_teacher(of_reference, group, level, rows[-1]["ratio_without_teacher"])
    return rows


def _counts_and_means(group: Group) -> dict[str, Any]:
    """What a configuration's own trials say."""
    mean = mean_bounds(bounds_of(group))
    is_open = group["lower_s"] < group["upper_s"]
    # What an open trial would have done is not known.
    num_open = int(is_open.sum())
    reached_low, _ = share_interval(mean.num_reached, mean.num_trials)
    _, reached_high = share_interval(mean.num_reached + num_open, mean.num_trials)
    final = _known(group["final_test_accuracy"])
    return {
        "is_searched": is_searched(str(group["method"][0])),
        "epochs": float(group["epochs"][0]),
        "num_trials": mean.num_trials,
        "num_reached": mean.num_reached,
        "num_open": num_open,
        "num_running": int((is_open & (group["status"] == Status.RUNNING)).sum()),
        "reached_low": reached_low,
        "reached_high": reached_high,
        "mean_lower_s": mean.lower_s,
        "mean_upper_s": mean.upper_s,
        "variation": _deviation(group["upper_s"]) / mean.upper_s if mean.upper_s else math.nan,
        **{name: _median(group[column]) for column, name in _MEDIANS.items()},
        # A median over only the known times would be a median over the fast trials.
        **{name: math.nan for name in _SENSITIVITIES if len(_known(group[name])) < len(group[name])},
        "final_test_accuracy": float(final.mean()) if len(final) else math.nan,
        "final_test_sd": _deviation(final),
        "num_final": len(final),
        "max_grid_gap": max(_known(group["grid_gap"]).tolist(), default=math.nan),
        "max_cotenants": int(group["max_cotenants"].max()),
    }


def _interval_without_teacher(of_reference: Group, group: Group, level: float, ratio: float) -> dict[str, float]:
    """The interval of the ratio of costs with a cached teacher, NaN where the ratio is."""
    low = high = math.nan
    if not math.isnan(ratio):
        column = COST_RATIOS["without_teacher"]
        found = compare(*(_at_cost(each, column) for each in (of_reference, group)), level=level, with_p=False)
        low, high = found.ratio_low, found.ratio_high
    return {"ratio_without_teacher_low": low, "ratio_without_teacher_high": high}


def _at_cost(group: Group, column: str) -> Trials:
    """The trials that reached the target, with another cost there."""
    costs = dict(zip(group["seed"].tolist(), group[column].tolist(), strict=True))
    return {
        seed: replace(bound, lower_s=costs[seed], upper_s=costs[seed], gap_s=bound.gap_s * costs[seed] / bound.upper_s)
        for seed, bound in trials_by_seed(group).items()
        if bound.reached and bound.upper_s
    }


def _ratio_at_hit(of_reference: Group, group: Group, column: str) -> float:
    """Ratio of sums over the common seeds; NaN unless both reached the target on all of them and the axis has numbers.

    Using only the seeds on which both reached it would show a reference that often misses at its luckiest.
    """
    ours, theirs = (dict(zip(each["seed"], each[column], strict=True)) for each in (group, of_reference))
    common = ours.keys() & theirs.keys()
    total = math.fsum(ours[seed] for seed in common)
    return math.fsum(theirs[seed] for seed in common) / total if total else math.nan


def _known(values: NDArray[Any]) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = values.astype(float)
    return numbers[~np.isnan(numbers)]


def _deviation(values: NDArray[Any]) -> float:
    """The standard deviation, NaN for fewer than two values."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _median(values: NDArray[Any]) -> float:
    """The median of the known values: inf counts, NaN does not."""
    known = _known(values)
    return float(np.median(known)) if len(known) else math.nan
