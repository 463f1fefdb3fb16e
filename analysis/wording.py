"""How numbers read. One place, so that the terminal and the report print the same thing for the same number."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

# A row of a frame, as `to_dict("records")` gives it.
Row = Mapping[Hashable, Any]

NOTHING = "–"
NEVER = "> budget"


def seconds(value_s: float) -> str:
    """A duration without its unit: inf reads "> budget"."""
    return NEVER if math.isinf(value_s) else amount(value_s)


def time(value_s: float, at_least_s: float) -> str:
    """A time to accuracy; one that was not seen to its end reads "> 12.3"."""
    return f"> {amount(at_least_s)}" if at_least_s < value_s else seconds(value_s)


def amount(value: float) -> str:
    """A number with three to four digits that matter."""
    if math.isnan(value):
        return NOTHING
    size = abs(value)
    if size >= 1e6:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 100 else f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def percent(fraction: float) -> str:
    """A fraction as per cent, two decimals."""
    return NOTHING if math.isnan(fraction) else f"{fraction:.2%}"


def goal(fraction: float) -> str:
    """A target as per cent, with as many decimals as it was given."""
    return f"{fraction * 100:.4g}%"


def seeds(numbers: Iterable[int]) -> str:
    """Seeds with their runs joined: "0–2, 100–109"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs) or NOTHING


def share(part: float) -> str:
    """A probability or a share, three digits."""
    return NOTHING if math.isnan(part) else f"{part:.3g}"


def factor(value: float) -> str:
    """A ratio, two decimals."""
    if math.isnan(value):
        return NOTHING
    return "∞" if math.isinf(value) else f"{value:.2f}"


def interval(low: float, high: float) -> str:
    """An interval of ratios in brackets, "" where there is none."""
    return "" if math.isnan(low) or math.isnan(high) else f"[{factor(low)}, {factor(high)}]"


def ratio_number(row: Row) -> str:
    """A summary row's ratio, or both its ends where trials were stopped before their time was known."""
    if math.isnan(row["ratio"]):
        return NOTHING
    if row["mark"] == "to":
        return f"{factor(row['ratio'])} to {factor(row['ratio_at_most'])}"
    return factor(row["ratio"])


def times(row: Row) -> str:
    """A summary row's ratio as a factor, `1.28x`, or `0.49x to 1.03x` where trials were stopped early."""
    return " to ".join(f"{end}x" for end in ratio_number(row).split(" to "))


def ratio(row: Row) -> str:
    """A summary row's ratio to the baseline with its mark and interval, as `>= 1.35 [1.10, 1.62]`."""
    if row["is_baseline"]:
        return "1 (baseline)"
    value, low, high = (row[name] for name in ("ratio", "ratio_low", "ratio_high"))
    if math.isnan(value):
        return "both missed" if row["num_pairs"] and not row["num_open"] else NOTHING
    limits = interval(low, high) or ("(1 seed)" if row["num_pairs"] == 1 else "")
    return " ".join(part for part in (marked_ratio(row), limits) if part)


def marked_ratio(row: Row) -> str:
    """A summary row's ratio with its mark, as `>= 1.35`."""
    sign = "" if row["mark"] in ("", "to") else f"{row['mark']} "
    return f"{sign}{ratio_number(row)}" if not math.isnan(row["ratio"]) else NOTHING


def setting(row: Row) -> str:
    """How a sentence names a configuration: its method, and what sets it apart where it is a searched one."""
    name, configuration = str(row["method"]), str(row["configuration"])
    return f"{name} ({configuration})" if row["is_searched"] and configuration else name


def plural(number: int, one: str) -> str:
    """A count with its noun: 1 seed, 3 seeds."""
    return f"{number:,} {one if number == 1 else one + 's'}"
