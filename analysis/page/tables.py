"""The tables as shown in terminal and report: headers and formatted cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from analysis import wording
from analysis.wording import Row
from kdas.records import Measure

# Baselines are always shown, and this many of the searched configurations.
BEST_SEARCHED = 10
MANY_ROWS = 12


@dataclass(frozen=True)
class Column:
    """A header, its meaning, and how to format a row's cell. Numbers align right."""

    header: str
    cell: Callable[[Row], str]
    meaning: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Table:
    """Formatted cells: `rows` [R][C] for `columns` [C]; `config_ids` [R], "" for rows without a configuration."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    config_ids: tuple[str, ...]


def table(columns: Iterable[Column], frame: pd.DataFrame) -> Table:
    """The frame's rows as formatted cells."""
    chosen = tuple(columns)
    records = frame.to_dict("records")
    rows = tuple(tuple(column.cell(row) for column in chosen) for row in records)
    return Table(chosen, rows, tuple(str(row.get("config_id", "")) for row in records))


def main_rows(summary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary split into the rows to show and the remaining searched configurations.

    With more than 12 rows, only the 10 fastest searched configurations are shown, with everything else.
    """
    if len(summary) <= MANY_ROWS:
        return summary, summary.iloc[:0]
    searched = (summary["is_searched"].astype(bool)) & (summary["phase"] == "search")
    later = searched & (searched.cumsum() > BEST_SEARCHED)
    return summary[~later], summary[later]


def identity(summary: pd.DataFrame) -> list[Column]:
    """The columns that identify a row; the phase only if there are two."""
    phase = [Column("phase", _text("phase"), "the search chose by these seeds; confirm used fresh ones", False)]
    return [
        *(phase if summary["phase"].nunique() > 1 else []),
        Column("method", _text("method"), is_number=False),
        Column("configuration", lambda row: str(row["configuration"] or wording.NOTHING), is_number=False),
    ]


def terminal_columns(summary: pd.DataFrame, measure: Measure) -> list[Column]:
    """The columns that fit in a terminal."""
    return [
        *identity(summary),
        Column("median TTA, ref s", _time),
        Column("reached", _reached),
        Column(f"ratio to {measure.baseline} [95%]", wording.ratio),
    ]


def summary_columns(summary: pd.DataFrame, measure: Measure) -> list[Column]:
    """The summary table of the report."""
    return [
        *identity(summary),
        Column("reached", _reached, "trials that reached the target, of all trials"),
        Column("median TTA", _time, "median time to accuracy, reference seconds"),
        Column("mean L", _seconds("mean_lower_s"), "mean lower bound of min(T, tau), reference seconds"),
        Column("mean U", _seconds("mean_upper_s"), "mean upper bound of min(T, tau); rows are ordered by it"),
        Column(f"ratio to {measure.baseline} [95%]", wording.ratio, "ratio of sums, above 1x is faster"),
        Column("pairs", _compared(lambda row: str(row["num_pairs"])), "seeds shared with the baseline"),
        Column(
            "P(faster)",
            _share("p_faster"),
            "share of pairs that the configuration wins, ties count half; a lower limit if trials ended early",
        ),
        Column("p", _share("p_value"), "two-sided sign-flip test"),
        Column("p (Holm)", _share("p_holm"), "p, corrected for the number of comparisons"),
        Column(f"best {measure.split} acc.", _percent("best_accuracy"), "median over trials"),
        Column("test acc. at hit", _percent("test_accuracy_at_hit"), "median over trials that reached; never decides"),
    ]


def sensitivity_columns(summary: pd.DataFrame) -> list[Column]:
    """Times under other definitions of "reached", and other intervals."""
    return [
        *identity(summary),
        Column("first hit", _time, "the rule that decides"),
        Column("interpolated", _seconds("tta_linear_s"), "on the line from the last miss to the first hit"),
        Column("two in a row", _seconds("tta_two_in_a_row_s"), "the next evaluation reaches it too"),
        Column("held to the end", _seconds("tta_hold_to_end_s"), "every later evaluation reaches it too"),
        Column("coarsest gap", _share_percent("max_grid_gap"), "gap before the hit, as a part of the time to accuracy"),
        Column("geometric mean [95% t]", _geometric, "of the pairs' ratios; only if all reached the target"),
        Column(
            "[95% bootstrap]",
            _bootstrap,
            "of the ratio of sums, in the worst case for the configuration; too narrow for few seeds",
        ),
    ]


def indicator_columns(summary: pd.DataFrame) -> list[Column]:
    """The cost of reaching the target by other counts; medians over the trials that reached it."""
    return [
        *identity(summary),
        Column("reached", _reached, "the medians are over these trials"),
        Column("reference s", _amount("ref_s_at_hit"), "all teacher forwards are charged"),
        Column("as run, s", _amount("as_run_s_at_hit"), "only teacher forwards that ran are charged"),
        Column("wall s", _amount("wall_s_at_hit"), "only trials alone on their device"),
        Column("FLOPs", _amount("flops_at_hit")),
        Column("ratio by ref s", _compared(_ratio_alone), "to the baseline, as in the first table"),
        Column("as run", _ratio_of("as_run"), "ratio of costs as run, if all trials reached the target"),
        Column("by wall s", _ratio_of("wall"), "ratio of wall seconds, if both were alone on their device"),
        Column("by FLOPs", _ratio_of("flops"), "ratio of operations"),
        Column("samples trained", _amount("samples_trained_at_hit")),
        Column("samples scored", _amount("samples_scored_at_hit")),
        Column("teacher forwards", _amount("teacher_forwards_at_hit")),
    ]


def trial_columns(times: pd.DataFrame, measure: Measure) -> list[Column]:
    """Every trial."""
    return [
        Column("trial", _text("trial_id"), is_number=False),
        *identity(times),
        Column("seed", _text("seed")),
        Column("status", _text("status"), is_number=False),
        Column("TTA", _time, "reference seconds"),
        Column("L", _seconds("lower_s"), "lower bound of min(T, tau)"),
        Column("U", _seconds("upper_s"), "upper bound of min(T, tau)"),
        Column("last cost", _seconds("last_cost_ref_s"), "reference seconds at the last evaluation"),
        Column(f"best {measure.split} acc.", _percent("best_accuracy")),
        Column("test acc. at hit", _percent("test_accuracy_at_hit")),
        Column("evaluations", _text("num_evaluations")),
        Column("wall s", _wall, "* shared a device: do not quote"),
        Column("error", _text("error"), is_number=False),
    ]


def _time(row: Row) -> str:
    return wording.time(float(row["tta_ref_s"]), float(row["tta_at_least_s"]))


def _bootstrap(row: Row) -> str:
    return wording.interval(float(row["bootstrap_low"]), float(row["bootstrap_high"])) or wording.NOTHING


def cell_columns() -> list[Column]:
    """The methods of several sweeps."""
    return [
        Column("sweep", _text("cell"), is_number=False),
        Column("method", _text("method"), is_number=False),
        Column("configuration", lambda row: str(row["configuration"] or wording.NOTHING), is_number=False),
        Column("reached", _reached, "trials that reached the target, of all trials"),
        Column("median TTA", _time, "median time to accuracy, reference seconds of that sweep"),
        Column("ratio to the baseline [95%]", wording.ratio, "ratio of sums, above 1x is faster"),
        Column("p (Holm)", _share("p_holm"), "two-sided sign-flip test, corrected within its sweep"),
    ]


def profile_columns() -> list[Column]:
    """The profiles of methods over several sweeps."""
    return [
        Column("method", _text("method"), is_number=False),
        Column("score", _formatted("score", wording.two_decimals), "mean height of its profile from factor 1 to 4"),
        Column("fastest in", _share_percent("share_best"), "share of sweeps in which it is the fastest"),
        Column("within twice the best in", _share_percent("share_within_2"), "share of sweeps"),
        Column("sweeps", _text("num_cells"), "in which it ran"),
    ]


def timing_columns() -> list[Column]:
    """Wall seconds against reference seconds."""
    return [
        Column("other trials on the device", _text("num_cotenants")),
        Column("trials", _text("num_trials")),
        Column("wall s / reference s as run", _formatted("slowdown", wording.factor), "median over trials"),
        Column("lowest", _formatted("lowest", wording.factor)),
        Column("highest", _formatted("highest", wording.factor)),
    ]


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: str(row[name])


def _formatted(name: str, formatter: Callable[[float], str]) -> Callable[[Row], str]:
    return lambda row: formatter(float(row[name]))


def _seconds(name: str) -> Callable[[Row], str]:
    return _formatted(name, wording.seconds)


def _amount(name: str) -> Callable[[Row], str]:
    return _formatted(name, wording.amount)


def _percent(name: str) -> Callable[[Row], str]:
    return _formatted(name, wording.percent)


def _share_percent(name: str) -> Callable[[Row], str]:
    return lambda row: wording.percent(float(row[name])).replace(".00%", "%")


def _compared(cell: Callable[[Row], str]) -> Callable[[Row], str]:
    """Nothing for the baseline, which is not compared with itself."""
    return lambda row: wording.NOTHING if row["is_baseline"] else cell(row)


def _ratio_alone(row: Row) -> str:
    return wording.ratio(row, with_interval=False)


def _ratio_of(axis: str) -> Callable[[Row], str]:
    return _compared(_formatted(f"ratio_{axis}", wording.factor))


def _share(name: str) -> Callable[[Row], str]:
    return _formatted(name, wording.share)


def _reached(row: Row) -> str:
    return f"{row['num_reached']}/{row['num_trials']}"


def _geometric(row: Row) -> str:
    mean, low, high = (row[f"geometric_{name}"] for name in ("ratio", "low", "high"))
    return f"{wording.factor(mean)} {wording.interval(low, high)}".strip()


def _wall(row: Row) -> str:
    return wording.amount(float(row["wall_s"])) + (" *" if row["max_cotenants"] else "")
