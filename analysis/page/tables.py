"""The tables as shown in terminal and report: headers and formatted cells."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from analysis import wording
from analysis.findings.cautions import FEW_SEEDS
from analysis.findings.summary import reference_name
from analysis.page import cells
from analysis.wording import Row
from kdas.records import Measure

_TUNED = "how many configurations the search tried for this method; fixed: none"
_MEAN_TIME = (
    "mean over trials, reference seconds; a miss counts as the full budget; a range if trials ended early. Rows are "
    "ordered by its upper end"
)
_RATIO = (
    "ratio of sums over shared seeds, above 1x is faster; the interval is first where it includes 1x. It holds for all "
    "rows of the phase together, and allows for the grid and the prices"
)
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
    phase = [Column("phase", cells.text("phase"), "the search chose by these seeds; confirm used fresh ones", False)]
    return [
        *(phase if summary["phase"].nunique() > 1 else []),
        *_names(),
    ]


def _names() -> list[Column]:
    return [
        Column("method", cells.text("method"), "sampler with its recipe; _search: the settings were searched", False),
        Column(
            "configuration",
            lambda row: str(row["configuration"] or wording.NOTHING),
            "settings that differ from the method's defaults",
            False,
        ),
    ]


def crossed_table(crossed: pd.DataFrame, measure: Measure) -> Table:
    """Losses by samplers: each cell is a ratio to the baseline. Args: crossed: of `analysis.findings.crossed`."""
    samplers = list(dict.fromkeys(crossed["sampler"]))
    of_loss = [
        {"loss": loss, **dict(zip(rows["sampler"], rows.to_dict("records"), strict=True))}
        for loss, rows in crossed.groupby("loss", sort=False)
    ]
    meaning = f"ratio to {measure.baseline}, with its interval; trials that reached the target"

    def cell(sampler: str) -> Callable[[Row], str]:
        return lambda row: wording.crossed(row[sampler]) if isinstance(row.get(sampler), dict) else wording.NOTHING

    columns = [Column("loss", cells.text("loss"), "distillation loss", is_number=False)]
    columns += [Column(sampler, cell(sampler), meaning) for sampler in samplers]
    return table(columns, pd.DataFrame(of_loss, columns=["loss", *samplers]))


def terminal_columns(summary: pd.DataFrame, measure: Measure) -> list[Column]:
    """The columns that fit in a terminal."""
    return [
        *identity(summary),
        Column("tuned", wording.tuned, _TUNED, False),
        Column("mean time, ref s", wording.mean_time, _MEAN_TIME),
        Column("reached", cells.reached, "trials that reached the target, of all trials"),
        Column(f"ratio to {reference_name(summary, measure)} [95%]", wording.ratio, _RATIO),
    ]


def summary_columns(summary: pd.DataFrame, measure: Measure) -> list[Column]:
    """The summary table of the report."""
    return [
        *identity(summary),
        Column("tuned", wording.tuned, _TUNED, False),
        Column("mean time", wording.mean_time, _MEAN_TIME),
        Column(f"ratio to {reference_name(summary, measure)} [95%]", wording.ratio, _RATIO),
        *_of_the_full_schedule(summary, measure),
        Column(
            "reached [95%]",
            cells.reached_share,
            "trials that reached it, and the interval of their true share, of this row alone",
        ),
        Column("final test acc.", wording.final, "mean ± standard deviation over the trials that ran to their end"),
        Column(
            "test acc. at hit", cells.percent("test_accuracy_at_hit"), "median over trials that reached; never decides"
        ),
        Column(f"best {measure.split} acc.", cells.percent("best_accuracy"), "median over trials"),
        Column(
            "pairs",
            cells.unless_reference(lambda row: str(row["num_pairs"])),
            "seeds shared with the reference of the ratio",
        ),
        Column(
            "pairs won",
            cells.unless_reference(cells.share_percent("p_faster")),
            "share of pairs in which it was faster, ties count half; a lower limit if trials ended early",
        ),
        *_p_values(summary),
    ]


def _of_the_full_schedule(summary: pd.DataFrame, measure: Measure) -> list[Column]:
    """The ratio to the baseline's full schedule, where another plain setting is the reference."""
    column = Column(f"ratio to {measure.baseline} [95%]", wording.full, "the same, to the full schedule")
    others = set(summary.loc[summary["is_reference"].astype(bool), "method"]) - {measure.baseline}
    return [column] if others else []


def _p_values(summary: pd.DataFrame) -> list[Column]:
    """With few seeds p says nothing that the interval does not say better."""
    meaning = "two-sided, corrected for all comparisons of the phase; below 0.05 where the interval excludes 1x"
    has_enough = len(summary) and summary["num_pairs"].max() >= FEW_SEEDS
    return [Column("p", cells.share("p_value"), meaning)] if has_enough else []


def sensitivity_columns(summary: pd.DataFrame) -> list[Column]:
    """Times under other definitions of "reached", and other intervals."""
    return [
        *identity(summary),
        Column("first hit", cells.time, "the rule that decides; medians over trials, reference seconds"),
        Column("interpolated", cells.seconds("tta_linear_s"), "on the line from the last miss to the first hit"),
        Column("two in a row", cells.seconds("tta_two_in_a_row_s"), "the next evaluation reaches it too"),
        Column("held to the end", cells.seconds("tta_hold_to_end_s"), "every later evaluation reaches it too"),
        Column(
            "coarsest gap", cells.share_percent("max_grid_gap"), "gap before the hit, as a part of the time to accuracy"
        ),
        Column("[95% over seeds]", cells.over_seeds, "of the ratio, for the whole phase, without grid and prices"),
        Column(
            "geometric mean [95% t]",
            cells.geometric,
            "of the pairs' ratios, of this row alone; only if all reached the target",
        ),
        Column(
            "[bootstrap, too narrow]",
            cells.bootstrap,
            "of the ratio of sums, in the worst case for the configuration, of this row alone: in simulations it held "
            "the truth in 68% of sweeps with 3 seeds, 83% with 5 and 90% with 10",
        ),
    ]


def indicator_columns(summary: pd.DataFrame) -> list[Column]:
    """The cost of reaching the target by other counts: medians over the trials that reached it, ratios of sums."""
    return [
        *identity(summary),
        Column("reached", cells.reached, "the medians are over these trials"),
        Column("reference s", cells.amount("ref_s_at_hit"), "all teacher forwards are charged"),
        Column("as run, s", cells.amount("as_run_s_at_hit"), "only teacher forwards that ran are charged"),
        Column("wall s", cells.amount("wall_s_at_hit"), "only trials alone on their device"),
        Column("FLOPs", cells.amount("flops_at_hit"), "floating-point operations, by torch's own counter"),
        Column("ratio by ref s", wording.ratio, "as in the first table: every teacher forward is charged"),
        *_cached_teacher(summary),
        Column("as run", cells.ratio_of("as_run"), "ratio of costs as run, if all trials reached the target"),
        Column("by wall s", cells.ratio_of("wall"), "ratio of wall seconds, if both were alone on their device"),
        Column("by FLOPs", cells.ratio_of("flops"), "ratio of operations"),
        Column("samples trained", cells.amount("samples_trained_at_hit"), "each time that a sample was trained on"),
        Column("samples scored", cells.amount("samples_scored_at_hit"), "forward passes without gradients"),
        Column(
            "teacher forwards", cells.amount("teacher_forwards_at_hit"), "samples that the method needs the teacher for"
        ),
    ]


def _cached_teacher(summary: pd.DataFrame) -> list[Column]:
    """The ratio with a cached teacher for all, where the tables have that cost."""
    shown = cells.unless_reference(cells.without_teacher)
    column = Column("with a cached teacher [95%]", shown, "no teacher forward is charged, to either")
    return [column] if summary["ratio_without_teacher"].notna().any() else []


def trial_columns(times: pd.DataFrame, measure: Measure) -> list[Column]:
    """Every trial."""
    return [
        Column("trial", cells.text("trial_id"), "hash of everything that decides a curve, and the seed", False),
        *identity(times),
        Column("seed", cells.text("seed"), "decides initial weights, order and views"),
        Column("status", cells.text("status"), "how the trial ended", False),
        Column("TTA", cells.time, "reference seconds"),
        Column("L", cells.seconds("lower_s"), "lower bound of min(T, tau)"),
        Column("U", cells.seconds("upper_s"), "upper bound of min(T, tau)"),
        Column("last cost", cells.seconds("last_cost_ref_s"), "reference seconds at the last evaluation"),
        Column(f"best {measure.split} acc.", cells.percent("best_accuracy"), "highest of all evaluations"),
        Column("test acc. at hit", cells.percent("test_accuracy_at_hit"), "at the evaluation that reached the target"),
        Column("evaluations", cells.text("num_evaluations"), "on the grid of equal cost"),
        Column("wall s", cells.wall, "* shared a device: do not quote"),
        Column("error", cells.text("error"), "of a trial that crashed", False),
    ]


def ids_table(shown: pd.DataFrame, times: pd.DataFrame) -> Table:
    """The ids of the trials behind the shown rows of the summary, for commands that take one."""
    ids = times.groupby(["phase", "method", "config_id"], sort=False)["trial_id"].agg(", ".join)

    def of_row(row: Row) -> str:
        return str(ids.get((row["phase"], row["method"], row["config_id"]), ""))

    return table([*identity(shown), Column("trials", of_row, "", False)], shown)


def cell_columns() -> list[Column]:
    """The methods of several sweeps."""
    return [
        Column("sweep", cells.text("cell"), "one data set and pair of models", False),
        *_names(),
        Column("reached", cells.reached, "trials that reached the target, of all trials"),
        Column("mean time", wording.mean_time, f"{_MEAN_TIME}. Reference seconds of that sweep"),
        Column("ratio to the fastest plain setting [95%]", wording.ratio, _RATIO),
    ]


def profile_columns() -> list[Column]:
    """The profiles of methods over several sweeps."""
    return [
        Column("method", cells.text("method"), "the fastest configuration of each sweep", False),
        Column(
            "score", cells.formatted("score", wording.two_decimals), "mean height of its profile from factor 1 to 4"
        ),
        Column("fastest in", cells.share_percent("share_best"), "share of sweeps in which it is the fastest"),
        Column("within twice the best in", cells.share_percent("share_within_2"), "share of sweeps"),
        Column("sweeps", cells.text("num_cells"), "in which it ran"),
    ]


def timing_columns() -> list[Column]:
    """Wall seconds against reference seconds."""
    return [
        Column(
            "other trials on the device", cells.text("num_cotenants"), "the most that a trial may have shared it with"
        ),
        Column("trials", cells.text("num_trials"), "the median is over these"),
        Column("wall s / reference s as run", cells.formatted("slowdown", wording.factor), "median over trials"),
        *(Column(name, cells.formatted(name, wording.factor), "of the trials") for name in ("lowest", "highest")),
    ]
