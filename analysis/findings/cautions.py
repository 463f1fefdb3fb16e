"""Warnings about numbers, each shown beside the numbers that it concerns: first those about the answer itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from analysis import wording
from analysis.findings.answer import MOST_NAMED, Answer
from analysis.findings.cautions_of_data import (
    Caution,
    of_accuracies,
    of_crashes,
    of_the_clock,
    of_the_grid,
    of_the_prices,
    of_the_rounds,
    of_the_tables,
)
from analysis.findings.summary import deciding_phase
from analysis.record.measure import ByHand, teacher_accuracy
from kdas.records import Measure, Status, is_searched

# With fewer pairs, a t-test has too few degrees of freedom to be worth a p.
FEW_SEEDS = 5
# From this many times the reference's variation on, claims are wrong more often than they say.
ERRATIC = 2.0


def cautions(
    summary: pd.DataFrame,
    times: pd.DataFrame,
    curves: pd.DataFrame,
    trials: pd.DataFrame,
    measure: Measure,
    won: Answer,
    timing: pd.DataFrame,
    methods: pd.Series,
    picks: pd.DataFrame,
    environment: Mapping[str, str],
    own_target: float,
    by_hand: ByHand,
) -> list[Caution]:
    """All warnings about this sweep, the most important first.

    Args: summary: of `summarize`; times: of `trial_times`; curves, trials: as loaded; won: the answer that they
        qualify; timing: of `timing_check`; methods: of `slowdown_by_method`; environment: as recorded;
        own_target: of the sweep; by_hand: what users have asked of it.
    """
    return [
        *_of_progress(times, measure),
        *_of_requests(times, by_hand),
        *_of_the_untried(measure),
        *_of_another_target(measure, own_target),
        *_of_the_teacher(environment, measure),
        *of_accuracies(times, picks, measure, teacher_accuracy(environment)[1]),
        *_of_the_split(measure),
        *_of_the_objective(measure),
        *_of_the_baseline(summary, measure),
        *_of_the_search(summary),
        *_of_the_winner(summary, won),
        *_of_misses(summary, won),
        *of_the_grid(summary, won),
        *of_the_prices(summary, timing, methods, measure, won),
        *of_the_rounds(environment),
        *of_the_clock(curves, trials, measure),
        *of_crashes(times),
        *of_the_tables(times, curves, trials, measure),
    ]


def unfinished(trials: pd.DataFrame, measure: Measure) -> str:
    """How many of the planned trials have ended, in words; "" if all have. Args: trials: rows with a `status`."""
    num_ended = int((trials["status"] != Status.RUNNING).sum())
    if num_ended >= measure.num_planned_trials:
        return ""
    return f"{num_ended:,} of {wording.plural(measure.num_planned_trials, 'planned trial')} have ended"


def _of_progress(times: pd.DataFrame, measure: Measure) -> Iterator[Caution]:
    if ended := unfinished(times, measure):
        yield Caution(
            "answer",
            f"The sweep is not finished: {ended}. All numbers may change. Running trials count in the means with "
            "their bounds and in no comparison.",
        )


def _of_requests(times: pd.DataFrame, by_hand: ByHand) -> Iterator[Caution]:
    """An end of the search, and trials, that a user and not the sweep's own rules have decided."""
    searched = times[times["method"].map(is_searched).astype(bool) & (times["phase"] == "search")]
    tried = searched.groupby("method")["config_id"].nunique()
    if by_hand.ended_at and (tried.empty or tried.min() < by_hand.ended_at):
        counts = [f"{count:,} ({method})" if len(tried) > 1 else f"{count:,}" for method, count in tried.items()]
        after = f"after {' and '.join(counts) or 'none'} of {wording.plural(by_hand.ended_at, 'configuration')}"
        yield Caution("answer", f"The search was ended by hand {after}.")
    num_stopped = int((times["trial_id"].isin(by_hand.stopped) & (times["status"] == Status.STOPPED_EARLY)).sum())
    if num_stopped:
        were = "was" if num_stopped == 1 else "were"
        yield Caution(
            "answer",
            f"{wording.plural(num_stopped, 'trial')} of the search {were} stopped by hand. A setting whose trial was "
            "stopped before the target cannot win.",
        )


def _of_the_untried(measure: Measure) -> Iterator[Caution]:
    if measure.untried:
        yield Caution(
            "answer",
            f"{', '.join(measure.untried)}: nothing was tried before the search ended, so this answer says nothing "
            "about it. To try it, raise the budget and run the sweep again.",
        )


def _of_another_target(measure: Measure, own_target: float) -> Iterator[Caution]:
    if measure.target != own_target:
        yield Caution(
            "answer",
            f"The sweep chose and stopped by its own target, {wording.goal(own_target)}. At this one other settings "
            "may be better than its finalists, and trials that were stopped only bound their times.",
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
    plain = summary[summary["is_plain"].astype(bool)]
    deciding = plain[plain["is_reference"].astype(bool) & (plain["phase"] == deciding_phase(summary))]
    name = measure.baseline if deciding.empty else wording.named(deciding.iloc[0].to_dict())
    if plain.empty:
        yield Caution("answer", f"The baseline {measure.baseline} has no trial, so nothing can be compared.")
    elif deciding.empty:
        yield Caution(
            "answer",
            f"The baseline {measure.baseline} has no trial in the deciding phase, so nothing can be compared.",
        )
    elif deciding["num_open"].sum() and not deciding["num_reached"].sum():
        yield Caution("answer", f"The baseline {name} has not finished yet, so ratios are not known.")
    elif not deciding["num_reached"].sum():
        is_marked = (summary["mark"] == ">=").any()
        yield Caution(
            "answer",
            f"The baseline {name} never reached the target."
            + (" Ratios use the budget as its time; those marked >= are lower limits." if is_marked else ""),
        )


def _of_the_search(summary: pd.DataFrame) -> Iterator[Caution]:
    """A search in which every setting has the same time to the target, the budget."""
    searched = summary[summary["is_searched"].astype(bool) & (summary["phase"] == "search")]
    counts = searched.groupby("method", sort=False)[["num_trials", "num_reached", "num_open"]].sum()
    missed = counts[(counts["num_reached"] == 0) & (counts["num_open"] < counts["num_trials"])]
    for method in missed.index:
        yield Caution(
            "answer",
            f"No searched setting of {method} reached the target, so their times do not differ and the best accuracy "
            "decides between them. Lower the target, or train longer.",
        )


def _of_the_winner(summary: pd.DataFrame, won: Answer) -> Iterator[Caution]:
    rows = summary[(summary["config_id"] == won.config_id) & (summary["phase"] == won.phase)].to_dict("records")
    reference = summary[summary["is_reference"].astype(bool) & (summary["phase"] == won.phase)].to_dict("records")
    for row in rows:
        if row["is_searched"] and won.phase == "search":
            is_begun = summary["phase"].eq("confirm").any()
            remedy = "The confirmation on fresh seeds is not complete." if is_begun else "Confirm it on fresh seeds."
            yield Caution(
                "answer",
                f"{row['method']} is the best of {wording.plural(int(row['num_tuned']), 'searched configuration')}, "
                "measured on the seeds it was chosen by: the interval allows for their number, but the ratio looks too "
                f"good. {remedy}",
            )
        num_pairs = int(row["num_trials"] if row["is_reference"] else row["num_pairs"])
        for other in reference:
            if row["ratio_at_most"] < 1 and row["mean_upper_s"] < other["mean_upper_s"]:
                yield Caution(
                    "answer",
                    f"{row['method']} has the better mean over its own seeds, but {other['method']} was faster on the "
                    f"{wording.plural(num_pairs, 'shared seed')}. Run both on the same seeds.",
                )
        for other in reference:
            if won.is_claimed and num_pairs >= FEW_SEEDS and row["variation"] > ERRATIC * other["variation"]:
                times = wording.factor(row["variation"] / other["variation"])
                yield Caution(
                    "answer",
                    f"Over seeds, {row['method']} varies {times} as much as {other['method']}. Slow seeds may not have "
                    "shown yet, so it is called faster by chance more often than in 2.5% of sweeps: with a spread of "
                    "30% against 10% in 4 to 7%, with 50% in 6 to 16%. Run more seeds.",
                )
        if 0 < num_pairs < FEW_SEEDS:
            yield Caution(
                "answer",
                f"Only {wording.plural(num_pairs, 'paired seed')}: only large differences can show. Run {FEW_SEEDS} or "
                "more for a claim, 10 for a narrow interval.",
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
    all_reached = deciding[(deciding["num_reached"] == deciding["num_trials"]) & (deciding["num_trials"] > 0)]
    if len(all_reached):
        num_seeds = int(all_reached["num_trials"].min())
        share = 1 - float(all_reached["reached_low"].min())
        yield Caution(
            "table",
            f"{_whose(all_reached, len(deciding))}: no seed of {num_seeds} missed the target, but the true miss rate "
            f"may be as high as {share:.0%} (see “reached”).",
        )


def _whose(rows: pd.DataFrame, num_all: int) -> str:
    """The settings of some rows, by name if they are few."""
    if len(rows) == num_all:
        return "Every setting" if num_all > 1 else str(rows["method"].iloc[0])
    names = rows["method"].drop_duplicates().tolist()
    if len(rows) > len(names) or len(names) > MOST_NAMED:
        return wording.plural(len(rows), "setting").capitalize()
    return ", ".join(names)
