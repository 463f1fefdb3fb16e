"""The sentences that qualify an answer: what its interval allows for, what it leaves open, what else was found.

Each function returns one or two sentences, "" where there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from analysis import wording
from analysis.findings.judgement import Judgement
from analysis.statistics.compare import Comparison
from analysis.statistics.verdict import POWER
from analysis.wording import Row
from kdas.records import Measure

_SEEDS = {"search": "the seeds of the search", "confirm": "fresh seeds"}

# Of a speed-up that would have to be larger, its size says nothing more.
_LARGEST = 10


def beats_only_the_reference(judged: Judgement) -> int | None:
    """The fastest setting that is faster than the reference, if none is faster than every plain setting."""
    if judged.verdict.winner is not None:
        return None
    return next((place for place, row in enumerate(judged.rows) if not row["is_plain"] and row["ratio_low"] > 1), None)


def stricter(judged: Judgement) -> str:
    """Why an interval below 1 may not be enough to be named slower, as a sentence."""
    num_plain, reference = sum(bool(row["is_plain"]) for row in judged.rows), judged.verdict.reference
    if num_plain < 2 or reference is None or not any(row["ratio_high"] < 1 for row in judged.rows):
        return ""
    return (
        f"{wording.named(judged.rows[reference])} was fastest of {num_plain} plain settings, so it looks too fast: "
        f"to be called slower, a setting must differ at a level {num_plain} times as strict as the table's."
    )


def of_the_interval(judged: Judgement, found: Comparison) -> str:
    """What the interval is over and what it allows for, as sentences."""
    if not found.num_pairs:
        return "The two share no seed, so they cannot be compared."
    if math.isnan(found.ratio):
        return "Both missed the target on all shared seeds, so there is no ratio."
    if found.num_pairs == 1:
        return "They share one seed, so there is no interval, and nothing can be claimed."
    num = len(judged.rows) - 1
    together = f", for all {num} comparisons together," if num > 1 else ""
    prices = f" prices (±{found.price_error:.1%})," if not math.isnan(found.price_error) else ""
    comma = "," if prices else ""
    said = f"The 95% interval{together} allows for chance over {found.num_pairs} paired seeds{comma}{prices}"
    said += f" and the evaluation grid{'' if prices else ', but not for errors of the prices'}."
    alone, joint = (
        wording.interval(low, high)
        for low, high in ((found.seeds_low, found.seeds_high), (found.ratio_low, found.ratio_high))
    )
    said += "" if alone == joint else f" Over seeds alone it is {alone}."
    return said


def not_every_plain(judged: Judgement) -> str:
    """Which plain setting a setting does not beat although it beats the reference, as a sentence."""
    place = beats_only_the_reference(judged)
    if place is None or judged.verdict.reference is None:
        return ""
    rows, plain = judged.rows, [each for each, row in enumerate(judged.rows) if row["is_plain"]]
    compared = {each: judged.compare(place, each) for each in plain if each != judged.verdict.reference}
    other = min(compared, key=lambda each: compared[each].ratio_low)
    beaten = wording.estimate(rows[place], wording.named(rows[judged.verdict.reference]))
    return (
        f"{wording.named(rows[place])} was {beaten}, but "
        f"{wording.estimate(asdict(compared[other]), wording.named(rows[other]))}."
    )


def left_open(found: Comparison) -> str:
    """What an interval that includes 1 leaves open, as a sentence."""
    if not found.ratio_low <= 1 <= found.ratio_high:
        return ""
    ends = wording.open_ends(found.ratio_low, found.ratio_high)
    if any(ends):
        without = {(True, False): "no lower end", (False, True): "no upper end"}.get(ends, "no end on either side")
        return f"The interval includes 1x and has {without}: these seeds cannot tell which of the two is faster."
    low, high = wording.factor(found.ratio_low), wording.factor(found.ratio_high)
    return f"The interval includes 1x: these seeds cannot tell a slowdown to {low} from a speed-up to {high}."


def beside_the_rival(judged: Judgement) -> str:
    """The setting that the winner is not distinguishable from, as a sentence."""
    found = judged.verdict
    if found.winner is None or found.rival is None:
        return ""
    rival = other_name(judged.rows[found.rival], judged.rows[found.winner])
    compared = judged.compare(found.winner, found.rival)
    return f"Compared with {rival} it was {wording.estimate(asdict(compared))}."


def other_name(row: Row, subject: Row) -> str:
    """The name of a setting beside another one, which may be of the same method."""
    return "another of its settings" if row["method"] == subject["method"] else wording.named(row)


def best_searched(judged: Judgement, quoted: int, reference: int) -> str:
    """The ratio of the best searched setting, as a sentence, if the answer is about another one."""
    best = next((row for row in judged.rows if row["is_searched"] and not row["is_plain"]), None)
    if best is None or best is judged.rows[quoted] or math.isnan(best["ratio"]):
        return ""
    than = wording.named(judged.rows[reference])
    return f"The best searched setting, {wording.setting(best)}, was {wording.estimate(best, than)}."


def against_full(row: Row, reference: Row, measure: Measure) -> str:
    """The ratio to the full schedule, as a sentence, if another plain setting is the reference."""
    if reference["method"] == measure.baseline or math.isnan(row["full_ratio"]):
        return ""
    said = wording.estimate(wording.with_full(row))
    return f"Against the full schedule of {measure.baseline}, {wording.named(row)} was {said}."


def mean_times(rows: Sequence[Row], phase: str) -> str:
    """The mean times of settings, as a sentence."""
    first, *others = rows
    times = f"{wording.named(first)} took {wording.mean_time(first)} reference seconds on average"
    times += "".join(f", {wording.named(row)} {wording.mean_time(row)}" for row in others)
    missed = any(row["num_reached"] + row["num_open"] < row["num_trials"] for row in rows)
    budget = " (a miss counts as the full budget)" if missed else ""
    seeds = f", on {_SEEDS[phase]}" if phase == "confirm" or any(row["is_searched"] for row in rows) else ""
    return f"{times}{seeds}{budget}."


def settings(row: Row) -> str:
    """What a searched setting sets."""
    return f"Its settings: {row['configuration']}." if row["is_searched"] and row["configuration"] else ""


def up_to_the_budget(found: Comparison, row: Row, reference: Row) -> str:
    """Why a ratio holds only for times up to the budget, as a sentence."""
    quoted, other = (
        f"{wording.named(each)} missed on {'some' if each['num_reached'] else 'all'} seeds" for each in (row, reference)
    )
    reasons = {"~": f"{quoted} and {other}", "to": "some trials ended early", ">=": other, "<=": quoted}
    reason = "" if math.isnan(found.ratio) else reasons.get(found.mark, "")
    return f"The ratio compares times up to the budget, because {reason}." if reason else ""


def ended_when_decided(judged: Judgement) -> str:
    """That the estimate of a confirmation which ended at its decision is too far from 1, as a sentence."""
    if judged.verdict.winner is None or not judged.has_looked_more_than_once:
        return ""
    return "Seeds were added until this was decided, so the ratio looks too good; its interval allows for that."


def power(judged: Judgement, found: Comparison) -> str:
    """What difference these seeds could have shown, as a sentence."""
    ratio, num = judged.detectable(found), judged.num_to_beat
    if math.isnan(ratio):
        return ""
    seeds = f"{found.num_pairs} seeds"
    if math.isinf(ratio):
        return f"With this spread, {seeds} are too few to show a speed-up of any size reliably."
    if ratio > _LARGEST:
        return f"With this spread, {seeds} are too few to show a speed-up of {_LARGEST}x in {POWER:.0%} of sweeps."
    show = f"a look at {seeds} shows" if judged.has_looked_more_than_once else f"{seeds} show"
    plain = "" if judged.verdict.reference is None else "plain "
    over = f" over {num} equally fast {plain}settings" if num > 1 else ""
    share = f"{wording.factor(ratio)}{over} in {POWER:.0%} of sweeps; a smaller one less often"
    return f"With this spread, {show} a speed-up of {share}."


def at_other_targets(near: Sequence[tuple[float, Comparison]]) -> str:
    """The ratio where the target itself would be, had the baseline drawn other seeds, as a sentence."""
    known = [(wording.goal(target), wording.ratio(asdict(found))) for target, found in near if found.ratio > 0]
    if not known:
        return ""
    texts = " and ".join(f"at {goal} the ratio is {estimate}" for goal, estimate in known)
    return f"All this is at one target, which is an estimate too: one standard deviation away, {texts}."


def depends_on_the_target(found: Comparison, near: Sequence[tuple[float, Comparison]]) -> bool:
    """Whether the interval of another target lies on another side of 1."""
    return any(_side(other) != _side(found) for _, other in near if other.ratio > 0)


def _side(found: Comparison) -> tuple[bool, bool]:
    """On which sides of 1 the interval lies."""
    return found.ratio_low <= 1, found.ratio_high >= 1
