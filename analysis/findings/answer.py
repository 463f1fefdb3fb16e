"""The answer of a sweep: which setting was fastest and by how much, and what missed the target."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analysis import wording
from analysis.findings.summary import deciding_phase
from analysis.wording import Row
from kdas.records import Measure

_LIMIT = {">=": "at least ", "<=": "at most "}
_SEEDS = {"search": "the seeds of the search", "confirm": "fresh seeds"}


@dataclass(frozen=True)
class Answer:
    """`headline` is one short sentence; `details` and `missed` are sentences that qualify it. `config_id` and `phase`
    name the winner, "" if there is none."""

    headline: str
    details: str
    missed: str
    phase: str = ""
    config_id: str = ""

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(filter(None, (self.headline, self.details, self.missed)))


def answer(summary: pd.DataFrame, measure: Measure) -> Answer:
    """The answer from the rows of the deciding phase of `analysis.findings.summary.summarize`."""
    phase = deciding_phase(summary)
    deciding = summary[summary["phase"] == phase]
    rows: list[Row] = list(deciding.to_dict("records"))
    goal = f"{wording.goal(measure.target)} {measure.split} accuracy"
    won = next((row for row in rows if row["num_reached"]), None)
    if won is None:
        confirmed = "confirmed " if phase == "confirm" else ""
        return Answer(f"No {confirmed}trial has reached {goal}.", "", _best_so_far(deciding, measure))
    # Trials that ended early, or still run, may have been faster.
    rivals = [row for row in rows if row["mean_lower_s"] < won["mean_upper_s"] and row is not won and row["num_open"]]
    fastest = "fastest as far as is known" if rivals else "fastest"
    others = [row for row in rows if row is not won]
    compared = _of_others(others, is_open=bool(rivals)) if won["is_baseline"] else _speedup(won, measure)
    details = [_cost(won, phase)]
    if not won["is_baseline"]:
        details.append(_pairs(won))
    elif not rivals:
        details.append(_nearest(others, measure))
    details.append(_settings(won) if won["is_searched"] else _best_searched(others, measure))
    headline = f"{won['method']} reached {goal} {fastest}: {compared}."
    return Answer(headline, " ".join(filter(None, details)), _missed(rows, phase), phase, str(won["config_id"]))


def _cost(row: Row, phase: str) -> str:
    """What the winner took, and on which seeds."""
    low, high = (wording.amount(row[name]) for name in ("mean_lower_s", "mean_upper_s"))
    average = f"{low if low == high else f'{low} to {high}'} reference seconds on average"
    # Baselines are chosen by no seeds, so those of a search do not flatter them.
    seeds = f", on {_SEEDS[phase]}" if phase == "confirm" or row["is_searched"] else ""
    if row["num_reached"] == row["num_trials"]:
        return f"It took {average}{seeds}."
    missed = row["num_trials"] - row["num_reached"] - row["num_open"]
    budget = " (a miss counts as the budget)" if missed else ""
    return f"It did so on {row['num_reached']} of its {row['num_trials']} seeds and took {average}{budget}{seeds}."


def _settings(row: Row) -> str:
    return f"Its settings: {row['configuration']}." if row["configuration"] else ""


def _of_others(others: list[Row], *, is_open: bool) -> str:
    """How the others did if a baseline was the fastest, as a clause."""
    if is_open:
        return "whether another setting beats this baseline is open"
    return "no other setting beat this baseline" if others else "no other setting has been run"


def _nearest(others: list[Row], measure: Measure) -> str:
    """The setting that came nearest to a baseline that won; the searched one has a sentence of its own."""
    nearest = next((row for row in others if not math.isnan(row["ratio"])), None)
    if nearest is None or nearest is _first_searched(others):
        return ""
    return f"The nearest, {wording.setting(nearest)}, was {_speedup(nearest, measure)}. {_pairs(nearest)}"


def _best_searched(others: list[Row], measure: Measure) -> str:
    """How the best searched setting did if something else was the fastest."""
    best = _first_searched(others)
    if best is None or math.isnan(best["ratio"]):
        return ""
    return f"The best searched setting, {wording.setting(best)}, was {_speedup(best, measure)}. {_pairs(best)}"


def _first_searched(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["is_searched"]), None)


def _speedup(row: Row, measure: Measure) -> str:
    """The comparison with the baseline as a clause, `1.28x [1.15, 1.41] as fast as plain_kd`, or why there is none."""
    if not row["num_pairs"]:
        return f"no seed in common with {measure.baseline} to compare it by"
    if math.isnan(row["ratio"]):
        return f"neither it nor {measure.baseline} reached it on the seeds that both have"
    # Where the mark is "~" or "to", which of the two was faster past the budget is not known.
    restricted = " in time up to the budget" if row["mark"] in ("~", "to") else ""
    interval = wording.interval(row["ratio_low"], row["ratio_high"]) if row["num_pairs"] > 1 else ""
    times = f"{_LIMIT.get(str(row['mark']), '')}{wording.times(row)}"
    return f"{' '.join(filter(None, (times, interval)))} as fast as {measure.baseline}{restricted}"


def _pairs(row: Row) -> str:
    """What a comparison rests on, as a sentence."""
    if not row["num_pairs"] or math.isnan(row["ratio"]):
        return ""
    if row["num_pairs"] == 1:
        return "One seed in common, so there is no interval."
    unsure = "; it includes 1, no difference" if row["ratio_low"] <= 1 <= row["ratio_high"] else ""
    return f"The 95% interval is over {row['num_pairs']} paired seeds{unsure}."


def _missed(rows: list[Row], phase: str) -> str:
    """What did not reach the target, by method, and why. Trials that still run or ended early are not misses."""
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
