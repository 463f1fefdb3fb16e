"""The answer of a sweep: what may be claimed, one ratio with its interval, and what qualifies them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from analysis import wording
from analysis.findings import qualifications
from analysis.findings.judgement import Judgement
from analysis.statistics.compare import Comparison
from analysis.wording import Row
from kdas.records import Measure

# Up to this many methods are named in the verdict.
MOST_NAMED = 3


@dataclass(frozen=True)
class Answer:
    """`headline` is the verdict in one short sentence, `estimate` one ratio with its interval, "" if there is none.

    `slower` names the settings that are slower beyond doubt. `points` are the sentences to read before quoting,
    `missed` what did not reach the target. `compared` says what ran and how much each was tuned, `more` how it was
    computed. `config_id` and `phase` name the setting that the ratio is of, "" if there is none; `is_claimed`: it is
    faster beyond doubt.
    """

    headline: str
    estimate: str = ""
    slower: str = ""
    points: tuple[str, ...] = ()
    missed: str = ""
    compared: str = ""
    more: tuple[str, ...] = ()
    phase: str = ""
    config_id: str = ""
    is_claimed: bool = False

    @property
    def details(self) -> str:
        """All sentences that qualify the estimate."""
        return " ".join((*self.points, *self.more))

    @property
    def text(self) -> str:
        """All sentences."""
        return f"{self.headline} {self.qualified}".strip()

    @property
    def qualified(self) -> str:
        """All sentences but the first."""
        return " ".join(filter(None, (*self.short, self.compared, *self.more)))

    @property
    def short(self) -> tuple[str, ...]:
        """The sentences after the first that nobody should quote the answer without."""
        estimate = f"{self.estimate}." if self.estimate else ""
        return tuple(filter(None, (estimate, self.slower, *self.points, self.missed)))


def answer(judged: Judgement, measure: Measure, near: Sequence[tuple[float, Comparison]] = ()) -> Answer:
    """The answer, from what `analysis.findings.judgement.judge` found. Args: near: the ratio at other targets."""
    rows, phase = judged.rows, judged.phase
    goal = f"{wording.goal(measure.target)} {measure.split} accuracy"
    if not any(row["num_reached"] for row in rows):
        confirmed = "confirmed " if phase == "confirm" else ""
        headline = _with_untried(f"No {confirmed}trial has reached {goal}.", measure)
        return Answer(headline, missed=_best_so_far(rows, measure))
    quoted, reference = judged.quoted
    so_far = " so far" if any(row["num_running"] for row in rows) else ""
    headline = _with_untried(_verdict(judged, goal + so_far, is_whole=not measure.untried), measure)
    compared, missed = _compared(judged), _missed(rows, phase)
    if quoted is None or reference is None:
        times = qualifications.mean_times([rows[0]], phase)
        config_id = str(rows[0]["config_id"])
        return Answer(headline, missed=missed, compared=compared, more=(times,), phase=phase, config_id=config_id)
    found = judged.compare(quoted, reference)
    at_others = qualifications.at_other_targets(near)
    # Then nobody should quote the answer without it.
    depends = qualifications.depends_on_the_target(found, near)
    points = (
        qualifications.not_every_plain(judged),
        qualifications.left_open(found),
        qualifications.beside_the_rival(judged),
        qualifications.best_searched(judged, quoted, reference),
        qualifications.up_to_the_budget(found, rows[quoted], rows[reference]),
        qualifications.ended_when_decided(judged),
        *([at_others] if depends else []),
        qualifications.power(judged, found),
    )
    more = (
        qualifications.of_the_interval(judged, found),
        qualifications.against_full(rows[quoted], rows[reference], measure),
        qualifications.mean_times([rows[quoted], rows[reference]], phase),
        qualifications.settings(rows[quoted]),
        qualifications.stricter(judged),
        *([] if depends else [at_others]),
    )
    return Answer(
        headline,
        f"{wording.named(rows[quoted])}: {wording.estimate(asdict(found), wording.named(rows[reference]))}"
        if not math.isnan(found.ratio)
        else "",
        _slower(judged),
        tuple(filter(None, points)),
        missed,
        compared,
        tuple(filter(None, more)),
        phase,
        str(rows[quoted]["config_id"]),
        is_claimed=quoted == judged.verdict.winner,
    )


def _verdict(judged: Judgement, goal: str, *, is_whole: bool) -> str:
    """The first sentence. It names a winner only where every comparison that it implies holds.

    Args: is_whole: whether something of every method was tried.
    """
    rows, found = judged.rows, judged.verdict
    if found.winner is not None and found.is_fastest:
        than = ", faster than every other setting" if is_whole else " of the settings that ran"
        return f"{wording.named(rows[found.winner])} was fastest to {goal}{than}."
    if found.reference is None:
        others = "; no plain distillation to compare with" if len(rows) == 1 else ", but not reliably the fastest"
        return f"{wording.named(rows[0])} reached {goal} first on average{others}."
    plain = wording.named(rows[found.reference])
    if found.winner is not None and found.rival is not None:
        rival = qualifications.other_name(rows[found.rival], rows[found.winner])
        winner = wording.named(rows[found.winner])
        return f"{winner} was faster than {plain} to {goal} but not distinguishable from {rival}."
    methods = list(dict.fromkeys(str(row["method"]) for row in rows if not row["is_plain"]))
    if not methods:
        return f"Only plain distillation has run: {plain} reached {goal} first on average."
    if qualifications.beats_only_the_reference(judged) is not None:
        plain = "every plain setting"
    return f"{_none_of(methods)} was reliably faster than {plain} to {goal}."


def _with_untried(verdict: str, measure: Measure) -> str:
    """The verdict with the searched methods that it says nothing about."""
    if not measure.untried:
        return verdict
    return f"{verdict.removesuffix('.')}; nothing of {' or '.join(measure.untried)} was tried."


def _none_of(methods: Sequence[str]) -> str:
    """The subject of a sentence that denies something of all these methods."""
    if all(method.startswith("kdas") for method in methods):
        return "No KDAS setting"
    if len(methods) > MOST_NAMED:
        return f"No setting of {len(methods)} methods"
    *first, last = methods
    return f"No setting of {', '.join(first)} or {last}" if first else f"No setting of {last}"


def _slower(judged: Judgement) -> str:
    """The settings that are slower than the reference beyond doubt, as a sentence."""
    rows, reference = judged.rows, judged.verdict.reference
    if not judged.slower or reference is None or judged.verdict.winner == reference:
        # A plain setting that is faster than every other one says it already.
        return ""
    by_method: dict[str, list[Row]] = {}
    for place in judged.slower:
        by_method.setdefault(str(rows[place]["method"]), []).append(rows[place])
    counts = Counter(str(row["method"]) for row in rows)
    named = [_counted(method, found, counts[method]) for method, found in by_method.items()]
    return f"Reliably slower than {wording.named(rows[reference])}: {', '.join(named)}."


def _counted(method: str, found: Sequence[Row], num_settings: int) -> str:
    if num_settings > 1:
        return f"{len(found)} of the {num_settings} settings of {method}"
    return f"{method} {wording.ratio(found[0])}"


def _compared(judged: Judgement) -> str:
    """What ran, and how much each method was tuned, as a sentence."""
    by_method: dict[str, list[Row]] = {}
    for row in judged.rows:
        by_method.setdefault(str(row["method"]), []).append(row)
    parts = [f"{method} ({_tuning(rows, judged.phase)})" for method, rows in by_method.items()]
    num_seeds = {int(row["num_trials"]) for row in judged.rows}
    seeds = (
        wording.plural(max(num_seeds), "seed") if len(num_seeds) == 1 else f"{min(num_seeds)} to {max(num_seeds)} seeds"
    )
    fresh = "fresh " if judged.phase == "confirm" else ""
    return f"Compared on {seeds.replace(' ', f' {fresh}', 1)}: {', '.join(parts)}."


def _tuning(rows: Sequence[Row], phase: str) -> str:
    num_tuned, epochs = int(rows[0]["num_tuned"]), wording.epochs(rows[0]) if rows[0]["is_plain"] else ""
    if not num_tuned:
        return f"fixed{f', {epochs}' if epochs else ''}"
    best = f"best {len(rows)} of " if phase == "confirm" and len(rows) > 1 else "best of " if phase == "confirm" else ""
    return f"tuned: {best}{wording.plural(num_tuned, 'configuration')}"


def _missed(rows: Sequence[Row], phase: str) -> str:
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


def _best_so_far(rows: Sequence[Row], measure: Measure) -> str:
    known = [row for row in rows if not math.isnan(row["best_accuracy"])]
    if not known:
        return "Nothing has been evaluated yet."
    best = max(known, key=lambda row: float(row["best_accuracy"]))
    accuracy = wording.percent(best["best_accuracy"])
    return f"{wording.setting(best)} came closest, with a median best {measure.split} accuracy of {accuracy}."
