"""The answer of a sweep in two sentences: which setting was soonest and by how much, and what missed the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analysis import wording
from analysis.findings.summary import deciding_phase
from analysis.wording import Row
from kdas.records import Measure

_AT_LEAST = {">=": "at least ", "<=": "at most "}


@dataclass(frozen=True)
class Answer:
    """`soonest` and `missed` are a sentence each; `config_id` and `phase` name the winner, "" if there is none."""

    soonest: str
    missed: str
    phase: str = ""
    config_id: str = ""

    @property
    def text(self) -> str:
        """Both sentences."""
        return f"{self.soonest} {self.missed}"


def answer(summary: pd.DataFrame, measure: Measure) -> Answer:
    """The two sentences, from the rows of the deciding phase of `analysis.summary.summarize`."""
    phase = deciding_phase(summary)
    deciding = summary[summary["phase"] == phase]
    rows: list[Row] = list(deciding.to_dict("records"))
    goal = f"{wording.goal(measure.target)} {measure.split} accuracy"
    won = next((row for row in rows if row["num_reached"]), None)
    if won is None:
        confirmed = "confirmed " if phase == "confirm" else ""
        return Answer(f"No {confirmed}trial has reached {goal}.", _best_so_far(deciding, measure))
    # What ended on the way, or still runs, may have been sooner.
    rivals = [row for row in rows if row["mean_lower_s"] < won["mean_upper_s"] and row is not won and row["num_open"]]
    soonest = "soonest as far as is known" if rivals else "soonest"
    reached_it = f"{wording.setting(won)} reached {goal} {soonest}, {_when(won)}"
    seeds = {"search": ", on the search's own seeds" if won["is_searched"] else "", "confirm": ", on fresh seeds"}[
        phase
    ]
    searched = "" if won["is_searched"] else _best_searched(rows, measure)
    if won["is_baseline"]:
        against = _of_others([row for row in rows if row is not won], measure, is_open=bool(rivals))
        told = f"{reached_it}{seeds}: {against}{searched}."
    else:
        told = f"{reached_it}, {_speedup(won, measure)}{seeds}{searched}."
    return Answer(told, _missed(rows, phase), phase, str(won["config_id"]))


def _when(row: Row) -> str:
    low, high = (wording.amount(row[name]) for name in ("mean_lower_s", "mean_upper_s"))
    average = f"on average after {low if low == high else f'{low} to {high}'} reference seconds"
    if row["num_reached"] == row["num_trials"]:
        return average
    missed = row["num_trials"] - row["num_reached"] - row["num_open"]
    budget = " (a miss counting as the budget)" if missed else ""
    return f"on {row['num_reached']} of its {row['num_trials']} seeds and {average}{budget}"


def _of_others(rows: list[Row], measure: Measure, *, is_open: bool) -> str:
    """How the others did where a baseline was the soonest."""
    if is_open:
        return "whether another setting beats this baseline is open"
    if not rows:
        return "no other setting has been run"
    nearest = next((row for row in rows if not math.isnan(row["ratio"])), None)
    beaten = "no other setting beat this baseline"
    if nearest is None or nearest is _first_searched(rows):
        return beaten  # the sentence goes on with what was searched
    return f"{beaten}; the nearest, {wording.setting(nearest)}, was {_speedup(nearest, measure)}"


def _best_searched(rows: list[Row], measure: Measure) -> str:
    """How the best of what was searched did, where something else was the soonest."""
    best = _first_searched(rows)
    if best is None or math.isnan(best["ratio"]):
        return ""
    return f"; the best searched setting, {wording.setting(best)}, was {_speedup(best, measure)}"


def _first_searched(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["is_searched"]), None)


def _speedup(row: Row, measure: Measure) -> str:
    """The comparison with the baseline as a clause, with its interval, or why there is none."""
    if not row["num_pairs"]:
        return f"with no seed in common with {measure.baseline} to compare it by"
    if math.isnan(row["ratio"]):
        return f"while neither it nor {measure.baseline} reached it on the seeds that both have"
    number = wording.ratio_number(row)
    times = f"{_AT_LEAST.get(str(row['mark']), '')}{number} times as fast as {measure.baseline}"
    if row["mark"] in ("~", "to"):
        # Which way the ratio of the times themselves lies is not known.
        times += " in time up to the budget"
    if row["num_pairs"] == 1:
        return f"{times} (one seed in common, so no interval)"
    low, high = row["ratio_low"], row["ratio_high"]
    unsure = "; that includes 1, no difference" if low <= 1 <= high else ""
    span = f"95% interval {wording.factor(low)} to {wording.factor(high)}"
    return f"{times} ({span}, n = {row['num_pairs']} paired seeds{unsure})"


def _missed(rows: list[Row], phase: str) -> str:
    """What did not reach the target, by method, and why: it is no miss if a trial still runs or ended on the way."""
    columns = ["num_reached", "num_trials", "num_open", "num_running"]
    counts = pd.DataFrame(rows).groupby("method", sort=False)[columns].sum().astype(int)
    num_trials, totals = int(counts["num_trials"].sum()), counts["num_trials"].to_dict()

    def said(numbers: pd.Series, what: str) -> str:
        of_methods = [f"{method} {number} of {totals[method]}" for method, number in numbers.items() if number]
        return f"{int(numbers.sum()):,} of {num_trials:,} trials {what}: {', '.join(of_methods)}" if of_methods else ""

    parts = (
        said(counts["num_trials"] - counts["num_reached"] - counts["num_open"], "missed it"),
        said(counts["num_open"] - counts["num_running"], "ended before that was known"),
        said(counts["num_running"], "still run"),
    )
    what = "confirming trials" if phase == "confirm" else "trials"
    return "; ".join(filter(None, parts)) + "." if any(parts) else f"All {num_trials:,} {what} reached it."


def _best_so_far(deciding: pd.DataFrame, measure: Measure) -> str:
    known = deciding.dropna(subset=["best_accuracy"])
    if known.empty:
        return "Nothing has been evaluated yet."
    best = max(known.to_dict("records"), key=lambda row: float(row["best_accuracy"]))
    accuracy = wording.percent(best["best_accuracy"])
    return f"The nearest is {wording.setting(best)}, with a median best {measure.split} accuracy of {accuracy}."
