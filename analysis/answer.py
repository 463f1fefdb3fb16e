"""The answer of a sweep in two sentences: which setting was soonest and by how much, and what missed the target."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis import wording
from analysis.measure import Measure
from analysis.summary import deciding_phase
from analysis.wording import Row

_AT_LEAST = {"": "", ">=": "at least ", "<=": "at most ", "~": "about "}


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
    rows = summary[summary["phase"] == phase].to_dict("records")
    goal = f"{wording.goal(measure.target)} {measure.split} accuracy"
    won = next((row for row in rows if row["num_reached"]), None)
    if won is None:
        return Answer(f"No trial has reached {goal}.", _best_so_far(summary, measure))
    reached_it = f"{wording.setting(won)} reached {goal} soonest"
    mean_time = f"on average after {_mean_time(won)} reference seconds"
    if won["is_baseline"]:
        soonest = f"{reached_it}, {mean_time}: no other setting beat this baseline."
    else:
        seeds = {"search": ", on the search's own seeds" if won["is_searched"] else "", "confirm": ", on fresh seeds"}
        soonest = f"{reached_it}, {mean_time}, {_speedup(won, measure)}{seeds[phase]}."
    return Answer(soonest, _missed(rows), phase, str(won["config_id"]))


def _mean_time(row: Row) -> str:
    low, high = (wording.amount(row[name]) for name in ("mean_lower_s", "mean_upper_s"))
    return low if low == high else f"{low} to {high}"


def _speedup(row: Row, measure: Measure) -> str:
    """The comparison with the baseline as a clause, with its interval, or why there is none."""
    if not row["num_pairs"]:
        return f"with no seed in common with {measure.baseline} to compare it by"
    times = f"{_AT_LEAST[str(row['mark'])]}{row['ratio']:.2f} times as fast as {measure.baseline}"
    if row["num_pairs"] == 1:
        return f"{times} (one seed in common, so no interval)"
    low, high = row["ratio_low"], row["ratio_high"]
    unsure = "; that includes 1, no difference" if low <= 1 <= high else ""
    return f"{times} (95% interval {low:.2f} to {high:.2f}, n = {row['num_pairs']} paired seeds{unsure})"


def _missed(rows: list[dict[Hashable, Any]]) -> str:
    counts = pd.DataFrame(rows).groupby("method", sort=False)[["num_reached", "num_trials"]].sum()
    num_trials, num_reached = int(counts["num_trials"].sum()), int(counts["num_reached"].sum())
    if num_reached == num_trials:
        return f"All {wording.plural(num_trials, 'trial')} reached it."
    misses = (counts["num_trials"] - counts["num_reached"]).astype(int)
    totals = counts["num_trials"].to_dict()
    parts = [f"{method} {missed} of {totals[method]}" for method, missed in misses.items() if missed]
    have = "has" if num_trials - num_reached == 1 else "have"
    return f"{num_trials - num_reached} of {num_trials:,} trials {have} not reached it: {', '.join(parts)}."


def _best_so_far(summary: pd.DataFrame, measure: Measure) -> str:
    known = summary.dropna(subset=["best_accuracy"])
    if known.empty:
        return "Nothing has been evaluated yet."
    best = max(known.to_dict("records"), key=lambda row: float(row["best_accuracy"]))
    accuracy = wording.percent(best["best_accuracy"])
    return f"The nearest is {wording.setting(best)}, with a median best {measure.split} accuracy of {accuracy}."
