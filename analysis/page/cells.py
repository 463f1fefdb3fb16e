"""How a table's cells show a row: a function of a row for each kind of cell."""

from __future__ import annotations

from collections.abc import Callable

from analysis import wording
from analysis.wording import Row


def over_seeds(row: Row) -> str:
    """The interval of the ratio over seeds alone."""
    return wording.interval(float(row["seeds_low"]), float(row["seeds_high"])) or wording.NOTHING


def bootstrap(row: Row) -> str:
    """The bootstrap interval of the ratio."""
    return wording.interval(float(row["bootstrap_low"]), float(row["bootstrap_high"])) or wording.NOTHING


def time(row: Row) -> str:
    """A time to accuracy."""
    return wording.time(float(row["tta_ref_s"]), float(row["tta_at_least_s"]))


def text(name: str) -> Callable[[Row], str]:
    """A column as it is."""
    return lambda row: str(row[name])


def formatted(name: str, formatter: Callable[[float], str]) -> Callable[[Row], str]:
    """A number of a column, printed by a formatter."""
    return lambda row: formatter(float(row[name]))


def seconds(name: str) -> Callable[[Row], str]:
    """Seconds, or that the budget was over first."""
    return formatted(name, wording.seconds)


def amount(name: str) -> Callable[[Row], str]:
    """A number with three to four significant digits."""
    return formatted(name, wording.amount)


def percent(name: str) -> Callable[[Row], str]:
    """A fraction in percent, two decimals."""
    return formatted(name, wording.percent)


def share_percent(name: str) -> Callable[[Row], str]:
    """A share in percent, without decimals if it is whole."""
    return lambda row: wording.percent(float(row[name])).replace(".00%", "%")


def unless_reference(cell: Callable[[Row], str]) -> Callable[[Row], str]:
    """Nothing for the reference, which is not compared with itself."""
    return lambda row: wording.NOTHING if row["is_reference"] else cell(row)


def ratio_of(axis: str) -> Callable[[Row], str]:
    """The ratio on another cost axis."""
    return unless_reference(formatted(f"ratio_{axis}", wording.factor))


def share(name: str) -> Callable[[Row], str]:
    """A share, three significant digits."""
    return formatted(name, wording.share)


def reached(row: Row) -> str:
    """How many trials reached the target, of all."""
    return f"{row['num_reached']}/{row['num_trials']}"


def reached_share(row: Row) -> str:
    """The same, with the interval of the share."""
    return f"{reached(row)} [{row['reached_low']:.0%}, {row['reached_high']:.0%}]"


def without_teacher(row: Row) -> str:
    """The ratio with a cached teacher, and its interval."""
    names = ("ratio_without_teacher", "ratio_without_teacher_low", "ratio_without_teacher_high")
    value, low, high = (float(row[name]) for name in names)
    return wording.beside(wording.factor(value), low, high)


def geometric(row: Row) -> str:
    """The geometric mean of the pairs' ratios, and its interval."""
    mean, low, high = (row[f"geometric_{name}"] for name in ("ratio", "low", "high"))
    return wording.beside(wording.factor(mean), low, high)


def wall(row: Row) -> str:
    """Wall seconds, marked if the device was shared."""
    return wording.amount(float(row["wall_s"])) + (" *" if row["max_cotenants"] else "")
