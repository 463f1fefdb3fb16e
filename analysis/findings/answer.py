"""The answer of a sweep: which setting was fastest, by how much, and what missed the target."""

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
    """`headline` is one short sentence; `details` and `missed` qualify it.

    `config_id` and `phase` name the winner, "" if there is none.
    """

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
    """The answer, from the deciding rows of `analysis.findings.summary.summarize`."""
    phase = deciding_phase(summary)
    deciding = summary[summary["phase"] == phase]
    rows: list[Row] = list(deciding.to_dict("records"))
    goal = f"{wording.goal(measure.target)} {measure.split} accuracy"
    won = next((row for row in rows if row["num_reached"]), None)
    if won is None:
        confirmed = "confirmed " if phase == "confirm" else ""
        return Answer(f"No {confirmed}trial has reached {goal}.", "", _best_so_far(deciding, measure))
    # Trials that ended early or still run may be faster than the winner.
    rivals = [row for row in rows if row["mean_lower_s"] < won["mean_upper_s"] and row is not won and row["num_open"]]
    fastest = "fastest so far" if rivals else "fastest"
    others = [row for row in rows if row is not won]
    compared = _of_others(others, is_open=bool(rivals)) if won["is_baseline"] else _speedup(won, measure)
    details = [_cost(won, phase)]
    if rivals:
        details.append("Another setting may be faster: some of its trials ended early or still run.")
    if not won["is_baseline"]:
        details += [_restricted(won), _pairs(won)]
    elif not rivals:
        details.append(_next_best(others, measure))
    details.append(_settings(won) if won["is_searched"] else _best_searched(others, measure))
    headline = f"{won['method']} reached {goal} {fastest}: {compared}."
    return Answer(headline, " ".join(filter(None, details)), _missed(rows, phase), phase, str(won["config_id"]))


def _cost(row: Row, phase: str) -> str:
    """The winner's mean time, and on which seeds."""
    low, high = (wording.amount(row[name]) for name in ("mean_lower_s", "mean_upper_s"))
    average = f"{low if low == high else f'{low} to {high}'} reference seconds on average"
    # Baselines were not chosen by their results, so their search seeds are fair.
    seeds = f", on {_SEEDS[phase]}" if phase == "confirm" or row["is_searched"] else ""
    if row["num_reached"] == row["num_trials"]:
        return f"It took {average}{seeds}."
    missed = row["num_trials"] - row["num_reached"] - row["num_open"]
    budget = " (a miss counts as the full budget)" if missed else ""
    reached = f"{row['num_reached']} of {row['num_trials']} seeds"
    return f"It reached the target on {reached} and took {average}{budget}{seeds}."


def _settings(row: Row) -> str:
    return f"Its settings: {row['configuration']}." if row["configuration"] else ""


def _of_others(others: list[Row], *, is_open: bool) -> str:
    """How the others did if a baseline was fastest, as a clause."""
    if is_open:
        return "no other setting is known to be faster"
    return "no other setting beat this baseline" if others else "no other setting has run"


def _next_best(others: list[Row], measure: Measure) -> str:
    """The second-fastest setting if a baseline won; the best searched setting has its own sentence."""
    second = next((row for row in others if not math.isnan(row["ratio"])), None)
    if second is None or second is _first_searched(others):
        return ""
    return _comparison(f"The next best, {wording.setting(second)}", second, measure)


def _best_searched(others: list[Row], measure: Measure) -> str:
    """How the best searched setting did if something else was fastest."""
    best = _first_searched(others)
    if best is None or math.isnan(best["ratio"]):
        return ""
    return _comparison(f"The best searched setting, {wording.setting(best)}", best, measure)


def _comparison(subject: str, row: Row, measure: Measure) -> str:
    """How a setting that did not win compares with the baseline, as sentences."""
    return " ".join(filter(None, (f"{subject}, was {_speedup(row, measure)}.", _restricted(row), _pairs(row))))


def _first_searched(rows: list[Row]) -> Row | None:
    return next((row for row in rows if row["is_searched"]), None)


def _speedup(row: Row, measure: Measure) -> str:
    """The comparison with the baseline as a clause, `1.28x [1.15, 1.41] as fast as plain_kd`, or why there is none."""
    if not row["num_pairs"]:
        return f"it shares no seed with {measure.baseline}"
    if math.isnan(row["ratio"]):
        return f"it and {measure.baseline} missed on all shared seeds"
    is_range = row["mark"] == "to"
    interval = "" if is_range else wording.interval(row["ratio_low"], row["ratio_high"])
    times = f"{_LIMIT.get(str(row['mark']), '')}{wording.speedup(row)}"
    within = "within budget" if is_range or row["mark"] == "~" else ""
    return " ".join(filter(None, (times, interval, f"as fast as {measure.baseline}", within)))


def _restricted(row: Row) -> str:
    """Why a ratio holds only for times up to the budget, as a sentence."""
    reasons = {"~": "both missed on some seeds", "to": "some trials ended early"}
    reason = "" if math.isnan(row["ratio"]) else reasons.get(str(row["mark"]), "")
    return f"The ratio compares times up to the budget, because {reason}." if reason else ""


def _pairs(row: Row) -> str:
    """What a comparison is based on, as a sentence."""
    if not row["num_pairs"] or math.isnan(row["ratio"]):
        return ""
    if row["num_pairs"] == 1:
        return "They share one seed, so there is no interval."
    low, high = row["ratio_low"], row["ratio_high"]
    limits = f" {wording.interval(low, high)}" if row["mark"] == "to" else ""
    pairs = f"{row['num_pairs']} paired seeds"
    if low <= 1 <= high:
        return f"The 95% interval{limits} ({pairs}) includes 1x, so there may be no difference."
    return f"The 95% interval{limits} is over {pairs}."


def _missed(rows: list[Row], phase: str) -> str:
    """What did not reach the target, by method, and why. Trials that ended early or still run are not misses."""
    columns = ["num_reached", "num_trials", "num_open", "num_running"]
    counts = pd.DataFrame(rows).groupby("method", sort=False)[columns].sum().astype(int)
    num_trials, totals = int(counts["num_trials"].sum()), counts["num_trials"].to_dict()

    def said(numbers: pd.Series, what: str) -> str:
        of_methods = [f"{method} {number} of {totals[method]}" for method, number in numbers.items() if number]
        return f"{int(numbers.sum()):,} of {num_trials:,} trials {what}: {', '.join(of_methods)}." if of_methods else ""

    parts = (
        said(counts["num_trials"] - counts["num_reached"] - counts["num_open"], "missed the target"),
        said(counts["num_open"] - counts["num_running"], "ended early"),
        said(counts["num_running"], "still run"),
    )
    what = "confirmation trials" if phase == "confirm" else "trials"
    return " ".join(filter(None, parts)) or f"All {num_trials:,} {what} reached the target."


def _best_so_far(deciding: pd.DataFrame, measure: Measure) -> str:
    known = deciding.dropna(subset=["best_accuracy"])
    if known.empty:
        return "Nothing has been evaluated yet."
    best = max(known.to_dict("records"), key=lambda row: float(row["best_accuracy"]))
    accuracy = wording.percent(best["best_accuracy"])
    return f"{wording.setting(best)} came closest, with a median best {measure.split} accuracy of {accuracy}."
