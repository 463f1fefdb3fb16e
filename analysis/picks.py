"""What the sampler picked: the share of each class and of each level of the teacher's confidence, over the epochs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from kdas.records import CONFIDENCE_EDGES, PICKS_COLUMNS, UserError

FILE = "picks.parquet"
LEAST_EXPECTED = 10


def load_picks(sweep_directory: Path | str) -> pd.DataFrame:
    """The table of picks, a row a window of epochs; no rows where the sweep recorded none.

    Returns: the columns `kdas.records.PICKS_COLUMNS`; `by_class` [C] and `by_confidence` [K] are counts of samples.
    Raises: UserError: if the file is of another shape.
    """
    path = Path(sweep_directory) / FILE
    if not path.is_file():
        return pd.DataFrame(columns=list(PICKS_COLUMNS))
    try:
        picks = pd.read_parquet(path, engine="pyarrow", partitioning=None)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read as Parquet ({reason}). Build the report again.") from error
    missing = [name for name in PICKS_COLUMNS if name not in picks.columns]
    if missing:
        raise UserError(f"{path}: lacks the column(s) {', '.join(missing)}. Build the report again: it rewrites them.")
    return picks[list(PICKS_COLUMNS)]


def shares(picks: pd.DataFrame, column: str) -> pd.DataFrame:
    """The part of each bin in what was trained on, over the trials together.

    Args: picks: rows of one configuration; column: `by_class` or `by_confidence`.
    Returns: a row a window, index its last epoch, a column a bin; rows sum to 1.
    """
    counts = {epoch: np.stack(list(window)).sum(axis=0) for epoch, window in picks.groupby("epoch")[column]}
    table = pd.DataFrame.from_dict(counts, orient="index").sort_index()
    return table.div(table.sum(axis=1).replace(0, np.nan), axis=0)


def relative_shares(picks: pd.DataFrame, reference: pd.DataFrame, column: str) -> pd.DataFrame:
    """`shares` over the share that each bin has in the reference: 2 is picked twice as often as it occurs.

    Args: reference: rows of a method that trains on everything.
    Returns: as `shares`; NaN where fewer than `LEAST_EXPECTED` samples would be expected, for chance alone would show.
    """
    of_all = np.stack(list(reference[column])).sum(axis=0).astype(float)
    of_bins = of_all / of_all.sum()
    num_picked = picks.groupby("epoch")[column].apply(lambda window: int(np.stack(list(window)).sum()))
    found = shares(picks, column)
    expected = num_picked.reindex(found.index).to_numpy(dtype=float)[:, None] * of_bins[None, :]
    return found.div(np.where(of_bins > 0, of_bins, np.nan), axis="columns").where(expected >= LEAST_EXPECTED)


def confidence_bins() -> list[str]:
    """How the bins of `by_confidence` read, from the least to the most confident."""
    edges = [f"{edge:g}" for edge in CONFIDENCE_EDGES]
    return [
        f"< {edges[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(edges)),
        f"≥ {edges[-1]}",
    ]
