"""Warnings about what was measured: accuracies, evaluation grid, prices, clock, crashes, tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import wording
from analysis.findings.answer import Answer
from analysis.findings.summary import deciding_phase
from analysis.record.measure import price_facts
from analysis.statistics.censoring import is_within
from analysis.time_to_accuracy import COARSE_GRID
from kdas.records import Measure, Status

# Below this part of its price, a trial is faster than noise can explain.
TOO_FAST = 0.8
# By more than this, prices are not right, or not certain.
PRICES_AGREE = 0.05
# Rounds of measuring prices that differ by more are repeated, and warned of if they still do.
PRICES_REPEAT = 0.03

Place = Literal["answer", "table", "trials"]


@dataclass(frozen=True)
class Caution:
    """One warning, and the part of the report that shows it."""

    place: Place
    text: str


def of_accuracies(times: pd.DataFrame, picks: pd.DataFrame, measure: Measure, clear_from: float) -> Iterator[Caution]:
    """Accuracies near chance, and those that are not numbers, by method."""
    if math.isnan(clear_from) and len(picks):
        chance = 1 / len(picks["by_class"].iloc[0])
        clear_from = chance + min(0.05, chance, (1 - chance) / 2)
    if measure.target < clear_from:
        yield Caution(
            "answer",
            f"The target, {wording.goal(measure.target)}, is near chance: {wording.percent(clear_from)} would be "
            "clearly above a guess. Times to it say nothing about training.",
        )
    near_chance = times.loc[
        times["is_whole"].astype(bool) & (times["best_accuracy"] < clear_from), "method"
    ].value_counts(sort=False)
    if len(near_chance):
        yield Caution(
            "answer",
            f"{wording.plural(int(near_chance.sum()), 'trial')} never got clearly above chance "
            f"({wording.percent(clear_from)}): {_by_method(near_chance)}. Check their settings.",
        )
    not_numbers = times.groupby("method", sort=False)["num_nan"].sum()
    not_numbers = not_numbers[not_numbers > 0]
    if len(not_numbers):
        yield Caution(
            "table",
            f"{measure.split.capitalize()} accuracy is NaN in {wording.plural(int(not_numbers.sum()), 'evaluation')}, "
            f"which never reach a target: {_by_method(not_numbers)}.",
        )


def _by_method(counts: pd.Series) -> str:
    return ", ".join(f"{method} {int(number)}" for method, number in counts.items())


def of_the_grid(summary: pd.DataFrame, won: Answer) -> Iterator[Caution]:
    """The evaluation grid, at the answer where the setting that it is about is concerned."""
    deciding = summary[summary["phase"] == deciding_phase(summary)]
    coarse = summary[summary["max_grid_gap"].astype(float) > COARSE_GRID]
    if coarse.empty:
        return
    worst = float(coarse["max_grid_gap"].max())
    is_quoted = deciding["is_reference"].astype(bool) | (deciding["config_id"] == won.config_id)
    concerns = not coarse.index.intersection(deciding.index[is_quoted]).empty
    text = (
        f"The evaluation grid is coarse: in {wording.plural(len(coarse), 'row')} one step is more than "
        f"{COARSE_GRID:.0%} of the time to accuracy (at most {worst:.1%}). The intervals allow for it, the ratios do "
        "not. Evaluate more often, or compare the interpolated times, in the report under “How certain the answer is”."
    )
    if worst >= 1:
        text += " A trial met the target at its first evaluation, so its time may be any shorter one."
    yield Caution("answer" if concerns else "table", text)


def of_the_prices(
    summary: pd.DataFrame, timing: pd.DataFrame, methods: pd.Series, measure: Measure, won: Answer
) -> Iterator[Caution]:
    """Prices of a busy machine, prices that disagree between methods, and errors that are large or not known."""
    fastest = float(timing["slowdown"].min()) if len(timing) else math.nan
    if fastest < TOO_FAST:
        yield Caution(
            "answer",
            f"Trials took {wording.share(fastest)} of their priced time (median): the machine was busy during "
            "calibration, so some work is priced too high. Delete the prices in KDAS_CACHE/calibrations and run the "
            "sweep under another name while nothing else runs.",
        )
    if len(methods) > 1 and methods.max() > (1 + PRICES_AGREE) * methods.min():
        yield Caution(
            "answer",
            f"Prices fit some methods better than others: alone on the device, wall seconds are "
            f"{wording.factor(float(methods.min()))} the cost for {methods.idxmin()} and "
            f"{wording.factor(float(methods.max()))} for {methods.idxmax()}. "
            "Ratios between them may be off by that much.",
        )
    rows = summary[(summary["phase"] == won.phase) & (summary["config_id"] == won.config_id)]
    errors = rows["price_error"].dropna()
    if measure.calibration_id and len(rows) and rows["num_pairs"].max() > 1 and errors.empty:
        yield Caution(
            "answer",
            "The error of the prices is not known, because they were measured by an earlier version. The intervals do "
            "not allow for it; on a busy machine it can be 10%.",
        )
    elif len(errors) and errors.max() > PRICES_AGREE:
        yield Caution(
            "answer",
            f"The prices are uncertain: alone they move the ratio by ±{errors.max():.1%}. The interval allows for it. "
            "Run the sweep under another name while nothing else runs.",
        )


def of_the_rounds(environment: Mapping[str, str]) -> Iterator[Caution]:
    """Prices that were measured while the machine did other work, or that differed between rounds."""
    spread, _, busy = price_facts(environment)
    if busy or spread > PRICES_REPEAT:
        while_busy = f" while other work ran ({busy})" if busy else ""
        yield Caution(
            "answer",
            f"The prices were measured{while_busy}, and differ by {spread:.1%} between rounds. The intervals allow for "
            "the difference, not for an error that all rounds share. While nothing else runs, "
            "run make calibrate and the sweep under another name.",
        )


def of_the_clock(curves: pd.DataFrame, trials: pd.DataFrame, measure: Measure) -> Iterator[Caution]:
    """Wall seconds of shared devices, and several calibrations."""
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


def of_crashes(times: pd.DataFrame) -> Iterator[Caution]:
    """Trials that crashed."""
    crashed = times[times["status"] == Status.CRASHED]
    if not crashed.empty:
        yield Caution(
            "table",
            f"{wording.plural(len(crashed), 'trial')} crashed; a crashed trial only bounds its time. The table of "
            "trials shows the errors. Run the sweep again to retry.",
        )


def _restricted(times_s: NDArray[np.float64], measure: Measure) -> NDArray[np.float64]:
    """Times as they are reported: beyond the budget they are misses."""
    is_hit = [is_within(time_s, measure.budget_ref_s) for time_s in times_s.tolist()]
    return np.where(is_hit, times_s, np.inf)


def of_the_tables(
    times: pd.DataFrame, curves: pd.DataFrame, trials: pd.DataFrame, measure: Measure
) -> Iterator[Caution]:
    """Tables that contradict each other or mix several tasks."""
    recorded, computed = trials["tta_ref_s"].to_numpy(dtype=float), times["tta_ref_s"].to_numpy(dtype=float)
    differ = times.loc[~np.isclose(_restricted(recorded, measure), computed, rtol=1e-6), "trial_id"]
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
    # Methods may have teachers of their own.
    students = curves["pair"].str.split("->").str[-1]
    num_cells = len(curves[["dataset"]].assign(student=students).drop_duplicates())
    if num_cells > 1:
        yield Caution(
            "answer",
            f"The sweep mixes {num_cells} combinations of data set and student, which one target and one baseline do "
            "not fit. Compare only within one combination, or run a sweep for each.",
        )


def _some(trial_ids: Iterable[str]) -> str:
    names = list(trial_ids)
    return f"{wording.plural(len(names), 'trial')} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
