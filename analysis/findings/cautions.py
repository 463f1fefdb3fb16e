"""Warnings about numbers, each shown beside the numbers that it concerns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from analysis import wording
from analysis.findings.answer import Answer
from analysis.findings.summary import deciding_phase
from analysis.record.measure import teacher_accuracy
from analysis.time_to_accuracy import COARSE_GRID
from kdas.records import Measure, Status

# Below this part of its price, a trial is faster than noise can explain.
TOO_FAST = 0.8
# With up to five pairs, no two-sided sign-flip test can fall below 0.0625.
FEW_SEEDS = 5

Place = Literal["answer", "table", "trials"]


@dataclass(frozen=True)
class Caution:
    """One warning, and the part of the report that shows it."""

    place: Place
    text: str


def cautions(
    summary: pd.DataFrame,
    times: pd.DataFrame,
    curves: pd.DataFrame,
    trials: pd.DataFrame,
    measure: Measure,
    won: Answer,
    timing: pd.DataFrame,
    environment: Mapping[str, str],
) -> list[Caution]:
    """All warnings about this sweep, the most important first.

    Args: summary: of `summarize`; times: of `trial_times`; curves, trials: as loaded; won: the answer that they
        qualify; timing: of `timing_check`; environment: as recorded.
    """
    return [
        *_of_progress(times, measure),
        *_of_the_teacher(environment, measure),
        *_of_the_split(measure),
        *_of_the_objective(measure),
        *_of_the_baseline(summary, measure),
        *_of_the_winner(summary, measure, won),
        *_of_misses(summary, won),
        *_of_the_grid(summary),
        *_of_the_prices(timing),
        *_of_the_clock(curves, trials, measure),
        *_of_crashes(times),
        *_of_the_tables(times, curves, trials),
    ]


def _of_progress(times: pd.DataFrame, measure: Measure) -> Iterator[Caution]:
    num_ended = int((times["status"] != Status.RUNNING).sum())
    if num_ended < measure.num_planned_trials:
        planned = wording.plural(measure.num_planned_trials, "planned trial")
        yield Caution(
            "answer",
            f"The sweep is not finished: {num_ended:,} of {planned} have ended. All numbers may change. Running "
            "trials count in the means with their bounds and in no comparison.",
        )


def _of_the_split(measure: Measure) -> Iterator[Caution]:
    if measure.split == "test":
        yield Caution(
            "answer",
            "The test split decided: target, stopping and choice used the reported test accuracy, as in published "
            "tables. This makes it look too good. Use a validation split to avoid it.",
        )


def _of_the_teacher(environment: Mapping[str, str], measure: Measure) -> Iterator[Caution]:
    accuracy, clear_from = teacher_accuracy(environment)
    if accuracy < clear_from:
        yield Caution(
            "answer",
            f"The teacher is near chance: it has {wording.percent(accuracy)} {measure.split} accuracy, and "
            f"{wording.percent(clear_from)} would be clearly above a guess. Students learn little from it, so this "
            "says little about distillation. Check its weights, the order of its classes, and mean and std.",
        )


def _of_the_objective(measure: Measure) -> Iterator[Caution]:
    if measure.objective != "tta":
        yield Caution(
            "answer",
            f"The search objective was {measure.objective}, which also chose the finalists. This answer is about the "
            "time to the target.",
        )


def _of_the_baseline(summary: pd.DataFrame, measure: Measure) -> Iterator[Caution]:
    baseline = summary[summary["is_baseline"].astype(bool)]
    deciding = baseline[baseline["phase"] == deciding_phase(summary)]
    if baseline.empty:
        yield Caution("answer", f"The baseline {measure.baseline} has no trial, so nothing can be compared.")
    elif deciding.empty:
        yield Caution(
            "answer",
            f"The baseline {measure.baseline} has no trial in the deciding phase, so nothing can be compared.",
        )
    elif deciding["num_open"].sum() and not deciding["num_reached"].sum():
        yield Caution("answer", f"The baseline {measure.baseline} has not finished yet, so ratios are not known.")
    elif not deciding["num_reached"].sum():
        yield Caution(
            "answer",
            f"The baseline {measure.baseline} never reached the target. Ratios use the budget as its time; those "
            "marked >= are lower limits.",
        )


def _of_the_winner(summary: pd.DataFrame, measure: Measure, won: Answer) -> Iterator[Caution]:
    rows = summary[(summary["config_id"] == won.config_id) & (summary["phase"] == won.phase)].to_dict("records")
    for row in rows:
        num_searched = int((summary["is_searched"].astype(bool) & (summary["phase"] == "search")).sum())
        if row["is_searched"] and won.phase == "search":
            yield Caution(
                "answer",
                f"The winner is the best of {wording.plural(num_searched, 'searched configuration')}, measured on the "
                "seeds it was chosen by, so it looks too good. Confirm it on fresh seeds.",
            )
        if row["is_baseline"]:
            num_seeds = int(row["num_trials"])
            if num_seeds < FEW_SEEDS:
                seeds = wording.plural(num_seeds, "seed")
                yield Caution("answer", f"Only {seeds}: small differences may be chance. Run {FEW_SEEDS} or more.")
            continue
        num_pairs = int(row["num_pairs"])
        if row["ratio_at_most"] < 1:
            yield Caution(
                "answer",
                f"The winner has the best mean over its own seeds, but {measure.baseline} was faster on the "
                f"{wording.plural(num_pairs, 'shared seed')}. Run both on the same seeds.",
            )
        if num_pairs > 1 and row["ratio_low"] == row["ratio_high"] < math.inf:
            yield Caution("answer", "All pairs of the winner have the same ratio, so its interval has zero width.")
        if num_pairs == 1:
            yield Caution("answer", f"Only 1 paired seed: no interval and no test. Run {FEW_SEEDS} or more.")
        elif 0 < num_pairs < FEW_SEEDS:
            yield Caution(
                "answer",
                f"Only {wording.plural(num_pairs, 'paired seed')}: p cannot fall below "
                f"{wording.share(2 / 2**num_pairs)}, and the interval has {num_pairs - 1} "
                f"{'degree' if num_pairs == 2 else 'degrees'} of freedom. Run {FEW_SEEDS} or more.",
            )
        elif num_pairs == FEW_SEEDS:
            yield Caution(
                "table", f"With {num_pairs} paired seeds p cannot fall below {wording.share(2 / 2**num_pairs)}."
            )


def _of_misses(summary: pd.DataFrame, won: Answer) -> Iterator[Caution]:
    """Where intervals cover less than 95%, as measured in docs/measuring.md."""
    deciding = summary[summary["phase"] == deciding_phase(summary)]
    num_missed = deciding["num_trials"] - deciding["num_reached"] - deciding["num_open"]
    mostly_missed = deciding[(num_missed * 2 > deciding["num_trials"]) & (deciding["num_reached"] > 0)]
    if not mostly_missed.empty:
        yield Caution(
            "answer" if won.config_id in set(mostly_missed["config_id"]) else "table",
            f"In {wording.plural(len(mostly_missed), 'row')} more than half of the seeds missed the target. With few "
            "seeds, the intervals there cover less than 95%.",
        )
    seeds_of_rows = deciding["num_trials"].unique()
    if len(seeds_of_rows) > 1:
        yield Caution(
            "table",
            f"Rows have {min(seeds_of_rows)} to {max(seeds_of_rows)} trials. Order and means use all of them, ratios "
            "only the shared seeds, so the two may disagree.",
        )
    all_reached = deciding.loc[deciding["num_reached"] == deciding["num_trials"], "num_trials"]
    if len(all_reached):
        # The largest miss rate at which `num_seeds` seeds without a miss still have a probability of 5%.
        num_seeds = int(all_reached.min())
        share = 1 - 0.05 ** (1 / num_seeds)
        yield Caution(
            "table",
            f"No seed of {num_seeds} missed the target, but the true miss rate may be as high as {share:.0%}.",
        )


def _of_the_grid(summary: pd.DataFrame) -> Iterator[Caution]:
    coarse = summary[summary["max_grid_gap"].astype(float) > COARSE_GRID]
    if not coarse.empty:
        worst = float(coarse["max_grid_gap"].max())
        yield Caution(
            "table",
            f"The evaluation grid is coarse: in {wording.plural(len(coarse), 'row')} one step is more than "
            f"{COARSE_GRID:.0%} of the time to accuracy (at most {worst:.1%}). Ignore smaller differences, evaluate "
            "more often, or compare the interpolated times in report.html.",
        )


def _of_the_prices(timing: pd.DataFrame) -> Iterator[Caution]:
    fastest = float(timing["slowdown"].min()) if len(timing) else math.nan
    if fastest < TOO_FAST:
        yield Caution(
            "answer",
            f"Trials took {wording.share(fastest)} of their priced time (median): the machine was busy during "
            "calibration, so some work is priced too high. Delete the prices in KDAS_CACHE/calibrations and run the "
            "sweep under another name while nothing else runs.",
        )


def _of_the_clock(curves: pd.DataFrame, trials: pd.DataFrame, measure: Measure) -> Iterator[Caution]:
    shared = curves.loc[curves["num_cotenants"] > 0, "trial_id"].nunique()
    if shared:
        yield Caution(
            "trials",
            f"{wording.plural(shared, 'trial')} shared a device (marked * in report.html), so their wall seconds "
            "include other trials' work. Do not quote them. Reference seconds are not affected.",
        )
    calibrations = sorted(
        {*curves["calibration_id"].unique(), *trials["calibration_id"], measure.calibration_id} - {""}
    )
    if set(calibrations) - {measure.calibration_id, *measure.calibration_ids}:
        yield Caution(
            "answer",
            f"The trials were priced by {len(calibrations)} calibrations ({', '.join(calibrations)}), so their "
            "reference seconds are different units. Calibrate once and run the sweep again.",
        )


def _of_crashes(times: pd.DataFrame) -> Iterator[Caution]:
    crashed = times[times["status"] == Status.CRASHED]
    if not crashed.empty:
        yield Caution(
            "table",
            f"{wording.plural(len(crashed), 'trial')} crashed; a crashed trial only bounds its time. The table of "
            "trials shows the errors. Run the sweep again to retry.",
        )


def _of_the_tables(times: pd.DataFrame, curves: pd.DataFrame, trials: pd.DataFrame) -> Iterator[Caution]:
    recorded, computed = trials["tta_ref_s"].to_numpy(dtype=float), times["tta_ref_s"].to_numpy(dtype=float)
    differ = times.loc[~np.isclose(recorded, computed, rtol=1e-6), "trial_id"]
    if len(differ):
        yield Caution(
            "trials",
            f"trials.parquet and curves.parquet have different times for {_some(differ)}. The curves were used.",
        )
    orphans = sorted(set(curves["trial_id"].unique()) - set(trials["trial_id"]))
    if orphans:
        yield Caution("trials", f"Ignored: {_some(orphans)} in curves.parquet but not in trials.parquet.")
    is_again = times.duplicated(["phase", "config_id", "seed"])
    if is_again.any():
        yield Caution(
            "answer",
            f"A configuration has duplicate seeds: {_some(times.loc[is_again, 'trial_id'])}. Means use all of them, "
            "pairs only the last one.",
        )
    cells = curves[["dataset", "pair"]].drop_duplicates()
    if len(cells) > 1:
        yield Caution(
            "answer",
            f"The sweep mixes {len(cells)} combinations of data set and model pair, which one target and one baseline "
            "do not fit. Compare only within one combination, or run a sweep for each.",
        )


def _some(trial_ids: Iterable[str]) -> str:
    names = list(trial_ids)
    return f"{wording.plural(len(names), 'trial')} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
