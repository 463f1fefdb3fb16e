"""How numbers are printed, in one place, so that terminal and report print the same text for the same number."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

# A row of a frame, as `to_dict("records")` gives it.
Row = Mapping[Hashable, Any]

NOTHING = "–"
NEVER = "> budget"
# The comparison of a summary row with the full schedule: field of a comparison -> column.
FULL = {
    "num_pairs": "full_pairs",
    "mark": "full_mark",
    "ratio": "full_ratio",
    "ratio_at_most": "full_at_most",
    "ratio_low": "full_low",
    "ratio_high": "full_high",
}


def seconds(value_s: float) -> str:
    """A duration without its unit: inf reads "> budget"."""
    return NEVER if math.isinf(value_s) else amount(value_s)


def time(value_s: float, at_least_s: float) -> str:
    """A time to accuracy; "> 12.3" if the trial ended before its time was known."""
    return f"> {amount(at_least_s)}" if at_least_s < value_s else seconds(value_s)


def amount(value: float) -> str:
    """A number with three to four significant digits."""
    if math.isnan(value):
        return NOTHING
    size = abs(value)
    if size >= 1e6:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def percent(fraction: float) -> str:
    """A fraction in percent, two decimals."""
    return NOTHING if math.isnan(fraction) else f"{fraction:.2%}"


def goal(fraction: float) -> str:
    """A target in percent, up to four significant digits."""
    return f"{fraction * 100:.4g}%"


def seeds(numbers: Iterable[int]) -> str:
    """Seeds, with consecutive ones joined: "0–2, 100–109"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs) or NOTHING


def share(part: float) -> str:
    """A probability or a share, three significant digits."""
    return NOTHING if math.isnan(part) else f"{part:.3g}"


def two_decimals(value: float) -> str:
    """A score, or an end of an interval."""
    if math.isnan(value):
        return NOTHING
    return "∞" if math.isinf(value) else f"{value:.2f}"


def factor(value: float) -> str:
    """A ratio: `1.28x`."""
    return NOTHING if math.isnan(value) else f"{two_decimals(value)}x"


def interval(low: float, high: float) -> str:
    """An interval of ratios: `[1.15, 1.41]`, "" if there is none.

    An open end is said in words: `[up to 1.72]`, `[0.33 or more]`, `[open]`. A number there would look measured.
    """
    if math.isnan(low) or math.isnan(high):
        return ""
    is_open_below, is_open_above = open_ends(low, high)
    if is_open_below and is_open_above:
        return "[open]"
    if is_open_below:
        return f"[up to {_end(high)}]"
    return f"[{_end(low)} or more]" if is_open_above else f"[{_end(low)}, {_end(high)}]"


def _end(value: float) -> str:
    """An end of an interval. What would read as 1.00 has as many digits as show on which side of 1 it is."""
    text = two_decimals(value)
    digits = 3
    while text.rstrip("0") == "1." and value != 1 and digits <= 6:
        text = f"{value:.{digits}f}"
        digits += 1
    return text


def open_ends(low: float, high: float) -> tuple[bool, bool]:
    """Whether an interval of ratios has no lower and no upper end.

    What would print as 0.00 is none, and so is an upper end whose reciprocal would: [200, inf) for the other way round.
    """
    return two_decimals(low) == "0.00", two_decimals(1 / high) == "0.00"


def speedup(row: Mapping[Any, Any]) -> str:
    """A comparison's ratio alone: `1.28x`, or `0.46x to 1.02x` if trials ended before their time was known."""
    if row["mark"] == "to":
        return f"{factor(row['ratio'])} to {factor(row['ratio_at_most'])}"
    return factor(row["ratio"])


def estimate(row: Mapping[Any, Any], *than: str) -> str:
    """A comparison in words: `1.28x [1.15, 1.41] as fast as plain_kd`.

    The interval is first where it includes 1, so that no ratio is read without it: `[0.45, 1.51] times as fast as
    plain_kd, estimate 0.83x`. Open on both sides it says nothing: `0.83x as fast as plain_kd in these samples, interval
    open on both sides`. Args: than: the name of the other setting, if it has to be said.
    """
    one, limits = _ratio(row), interval(row["ratio_low"], row["ratio_high"])
    as_fast = " as ".join(("as fast", *than))
    if not limits:
        return f"{one} {as_fast}" + (" (1 seed)" if row["num_pairs"] == 1 else "")
    if all(open_ends(row["ratio_low"], row["ratio_high"])):
        return f"{one} {as_fast} in these samples, interval open on both sides"
    is_open = row["ratio_low"] <= 1 <= row["ratio_high"]
    return f"{limits} times {as_fast}, estimate {one}" if is_open else f"{one} {limits} {as_fast}"


def _ratio(row: Mapping[Any, Any]) -> str:
    """The ratio alone, with the mark of misses: `>= 1.35x`."""
    return " ".join(filter(None, (row["mark"] if row["mark"] != "to" else "", speedup(row))))


def ratio(row: Mapping[Any, Any]) -> str:
    """A comparison in a table: `>= 1.35x [1.10, 1.62]`, `[0.45, 1.51] 0.83x`, `1x (reference)`."""
    if row.get("is_reference"):
        return "1x (reference)"
    if math.isnan(row["ratio"]):
        return "both missed" if row["num_pairs"] and not row.get("num_open") else NOTHING
    one, limits = _ratio(row), interval(row["ratio_low"], row["ratio_high"])
    if not limits:
        return f"{one} (1 seed)" if row["num_pairs"] == 1 else one
    return beside(one, row["ratio_low"], row["ratio_high"])


def beside(one: str, low: float, high: float) -> str:
    """A number with its interval, which is first where it includes 1."""
    limits = interval(low, high)
    return f"{limits} {one}" if low <= 1 <= high else f"{one} {limits}".strip()


def with_full(row: Row) -> dict[str, Any]:
    """The comparison of a summary row with the full schedule, as a row."""
    return {field: row[name] for field, name in FULL.items()} | {"num_open": row["num_open"]}


def full(row: Row) -> str:
    """A summary row's ratio to the full schedule in a table, as `ratio`."""
    return ratio(with_full(row))


def crossed(row: Row) -> str:
    """A combination's ratio to the baseline, and its misses: `0.80x [0.66, 0.97], 1 of 3 missed`."""
    missed = int(row["num_trials"] - row["num_reached"])
    text = "1x (baseline)" if row["is_baseline"] else full(row)
    return f"{text}, {missed} of {row['num_trials']} missed" if missed else text


def mean_time(row: Row) -> str:
    """A configuration's mean restricted time, as a range if trials only bound theirs: `2.10 to 4.51`."""
    low, high = (seconds(row[name]) for name in ("mean_lower_s", "mean_upper_s"))
    return low if low == high else f"{low} to {high}"


def epochs(row: Row) -> str:
    """The length of a method's training, "" if all methods have the same."""
    return "" if math.isnan(row["epochs"]) else plural(int(row["epochs"]), "epoch")


def named(row: Row) -> str:
    """The name of a setting in a verdict: its method, plus its epochs if it is plain."""
    length = epochs(row) if row["is_plain"] else ""
    return f"{row['method']} ({length})" if length else str(row["method"])


def tuned(row: Row) -> str:
    """How much a method was tuned: `fixed`, `8 configurations`."""
    return plural(int(row["num_tuned"]), "configuration") if row["num_tuned"] else "fixed"


def with_deviation(mean: float, deviation: float) -> str:
    """An accuracy with its deviation over seeds: `73.33% ± 0.25`."""
    return percent(mean) if math.isnan(mean) or math.isnan(deviation) else f"{percent(mean)} ± {deviation * 100:.2f}"


def final(row: Row) -> str:
    """The final test accuracy, its deviation, and of how many trials it is if not of all: `91.64% (1 of 3 trials)`."""
    shown = with_deviation(float(row["final_test_accuracy"]), float(row["final_test_sd"]))
    is_of_some = 0 < row["num_final"] < row["num_trials"]
    return f"{shown} ({int(row['num_final'])} of {int(row['num_trials'])} trials)" if is_of_some else shown


def count(number: float) -> str:
    """A number of things, rounded up: inf reads "never"."""
    return "never" if math.isinf(number) else "unknown" if math.isnan(number) else f"{math.ceil(number):,}"


def setting(row: Row) -> str:
    """The name of a configuration in a sentence: its method, plus its settings if it was searched."""
    name, configuration = str(row["method"]), str(row["configuration"])
    return f"{name} ({configuration})" if row["is_searched"] and configuration else name


def plural(number: int, one: str) -> str:
    """A count with its noun: 1 seed, 3 seeds."""
    return f"{number:,} {one if number == 1 else one + 's'}"
