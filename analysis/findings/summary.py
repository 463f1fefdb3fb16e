"""The summary table: one row per configuration. Terminal, report and notebooks all show these numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from analysis.findings.trial_times import INDICATORS
from analysis.statistics.censoring import Bounds, mean_bounds
from analysis.statistics.compare import Comparison, compare, holm
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
COST_RATIOS = {"as_run": "as_run_s_at_hit", "wall": "wall_s_at_hit", "flops": "flops_at_hit"}
_SENSITIVITIES = ("tta_linear_s", "tta_two_in_a_row_s", "tta_hold_to_end_s")
_COMPARISON = list(Comparison.__dataclass_fields__)
SUMMARY_COLUMNS = (
    *_GROUP,
    *("decides", "is_baseline", "is_searched", "num_trials", "num_reached", "num_open", "num_running"),
    *("mean_lower_s", "mean_upper_s"),
    *_MEDIANS,
    *("max_grid_gap", "max_cotenants"),
    *(f"ratio_{axis}" for axis in COST_RATIOS),
    *_COMPARISON,
    "p_holm",
)


def summarize(times: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """One row per configuration and phase: phase confirm first, then by the mean upper bound of the restricted time.

    - `decides`: the row belongs to the result, see `deciding_phase`.
    - Medians are over trials. A median time is inf if half of the trials or more missed the target.
      `tta_at_least_s` counts trials of unknown time (`num_open` of them) at their last cost. `test_accuracy_at_hit` is
      over the trials that reached the target.
    - The columns of `analysis.statistics.compare.Comparison`: baseline over candidate, paired by seed.
    - `ratio_as_run`, `ratio_wall`, `ratio_flops`: the same on other cost axes, if all trials reached the target.

    Args: times: of `analysis.findings.trial_times.trial_times`.
    Returns: a frame with the columns `SUMMARY_COLUMNS`; seconds are reference seconds, accuracies fractions.
    """
    baseline_config = baseline_configuration(times, measure)
    of_baseline = times[times["config_id"] == baseline_config]
    by_seed = _by_seed(of_baseline)
    rows = [
        dict(zip(_GROUP, key, strict=True)) | _row(group, baseline_config, of_baseline, by_seed)
        for key, group in times.groupby(_GROUP, sort=False)
    ]
    table = pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))
    # Each phase is one family of comparisons: among many, some small p is likely.
    for _, family in table.groupby("phase"):
        table.loc[family.index, "p_holm"] = holm(family["p_value"].tolist())
    table["decides"] = table["phase"] == ("confirm" if _is_confirmed(times, table, measure) else "search")
    # If all missed, the configuration that came closest to the target is first.
    return table.sort_values(
        ["phase", "mean_upper_s", "best_accuracy", "config_id"], ascending=[True, True, False, True], ignore_index=True
    )


def baseline_configuration(times: pd.DataFrame, measure: Measure) -> str | None:
    """The configuration of the baseline method that all others are compared with.

    Of several, the one with the most seeds, then the fastest: this can favour the baseline, never the candidate.

    Returns: a config_id, None if the baseline has no trial.
    """
    of_baseline = times[times["method"] == measure.baseline]
    if of_baseline.empty:
        return None
    grouped = of_baseline.groupby("config_id")["upper_s"].agg(["count", "mean"])
    return str(grouped.sort_index().sort_values(["count", "mean"], ascending=[False, True], kind="stable").index[0])


def deciding_phase(summary: pd.DataFrame) -> str:
    """The phase whose rows are the result: confirm once its finalists and baselines have ended on all seeds."""
    return "confirm" if (summary["phase"].eq("confirm") & summary["decides"].astype(bool)).any() else "search"


def _is_confirmed(times: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> bool:
    """Whether the confirmation is complete: by the sweep's record, or without one by the trials that exist."""
    is_open = (times["status"] == Status.RUNNING) & (times["lower_s"] < times["upper_s"])
    confirmed = times[times["phase"] == "confirm"]
    by_phase = dict(iter(summary.groupby("phase")))
    if not len(confirmed):
        return False
    # Without a finalist or the baseline it compares less than the search does.
    for role in ("is_searched", "is_baseline"):
        if "search" in by_phase and by_phase["search"][role].any() and not by_phase["confirm"][role].any():
            return False
    seeds = set(measure.confirm_seeds or confirmed["seed"])
    ended = confirmed[~is_open.loc[confirmed.index]].groupby("config_id")["seed"].agg(set)
    expected = measure.confirm_configs or tuple(confirmed["config_id"].unique())
    return all(seeds <= ended.get(config_id, set()) for config_id in expected)


def fastest(summary: pd.DataFrame) -> pd.DataFrame:
    """Each method's fastest configuration, from the deciding phase if the method has rows there."""
    decides = summary["phase"] == deciding_phase(summary)
    return pd.concat([summary[decides], summary[~decides]]).drop_duplicates("method")


def _row(
    group: pd.DataFrame, baseline_config: str | None, of_baseline: pd.DataFrame, by_seed: Mapping[int, Bounds]
) -> dict[str, Any]:
    mean = mean_bounds(_bounds(group))
    is_open = group["lower_s"] < group["upper_s"]
    is_baseline = group["config_id"].iloc[0] == baseline_config
    # The baseline compared with itself is 1 by definition and has no interval.
    candidate = {} if is_baseline else _by_seed(group)
    comparison = asdict(compare(by_seed, candidate, generator=np.random.default_rng(RESAMPLING_SEED)))
    return {
        "decides": False,
        "is_baseline": is_baseline,
        "is_searched": is_searched(str(group["method"].iloc[0])),
        "num_trials": mean.num_trials,
        "num_reached": mean.num_reached,
        "num_open": int(is_open.sum()),
        "num_running": int((is_open & (group["status"] == Status.RUNNING)).sum()),
        "mean_lower_s": mean.lower_s,
        "mean_upper_s": mean.upper_s,
        **{name: _median(group[column]) for column, name in _MEDIANS.items()},
        # A median over only the known times would be a median over the fast trials.
        **{name: math.nan for name in _SENSITIVITIES if group[name].isna().any()},
        "max_grid_gap": float(group["grid_gap"].max()),
        "max_cotenants": int(group["max_cotenants"].max()),
        **{f"ratio_{axis}": _ratio_at_hit(of_baseline, group, column) for axis, column in COST_RATIOS.items()},
        **comparison,
        "p_holm": math.nan,
    }


def _ratio_at_hit(of_baseline: pd.DataFrame, group: pd.DataFrame, column: str) -> float:
    """Ratio of sums over the common seeds; NaN unless both reached the target on all of them and the axis has numbers.

    Using only the seeds on which both reached it would show a baseline that often misses at its luckiest.
    """
    ours, theirs = (dict(zip(each["seed"], each[column], strict=True)) for each in (group, of_baseline))
    common = ours.keys() & theirs.keys()
    total = math.fsum(ours[seed] for seed in common)
    return math.fsum(theirs[seed] for seed in common) / total if total else math.nan


def _bounds(times: pd.DataFrame) -> list[Bounds]:
    columns = (times[name].tolist() for name in ("lower_s", "upper_s", "reached", "censored"))
    return [Bounds(*values) for values in zip(*columns, strict=True)]


def _by_seed(times: pd.DataFrame) -> dict[int, Bounds]:
    """Bounds by seed of the trials that have ended; a running trial has not missed yet."""
    has_ended = times[(times["status"] != Status.RUNNING) | times["reached"].astype(bool)]
    return dict(zip(has_ended["seed"].tolist(), _bounds(has_ended), strict=True))


def _median(values: pd.Series) -> float:
    """The median of the known values: inf counts, NaN does not."""
    numbers = values.to_numpy(dtype=float)
    known = numbers[~np.isnan(numbers)]
    return float(np.median(known)) if len(known) else math.nan
