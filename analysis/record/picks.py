"""What the sampler picked: the share of each class and of each level of the teacher's confidence, over the epochs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from kdas.errors import UserError
from kdas.records import CONFIDENCE_EDGES, PICKS_COLUMNS

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
        raise UserError(f"{path}: cannot be read as Parquet ({reason}). Run make report to rebuild it.") from error
    missing = [name for name in PICKS_COLUMNS if name not in picks.columns]
    if missing:
        raise UserError(f"{path}: missing columns: {', '.join(missing)}. Run make report to rebuild it.")
    return picks[list(PICKS_COLUMNS)]


def shares(picks: pd.DataFrame, column: str, num_bins: int | None = None) -> pd.DataFrame:
    """The part of each bin in what was trained on, over the trials together.

    Args: picks: rows of one configuration; column: `by_class` or `by_confidence`; num_bins: into so many neighbouring
        bins are they put together, if there are more.
    Returns: a row a window, index its last epoch, a column a bin; rows sum to 1. Windows that half of the trials
        or fewer have are left out: they are ends of trials that stopped on the way.
    """
    counts = _counts(picks, column, num_bins)
    return counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)


def relative_shares(
    picks: pd.DataFrame, reference: pd.DataFrame, column: str, num_bins: int | None = None
) -> pd.DataFrame:
    """`shares` over the share that each bin has in the reference: 2 is picked twice as often as it occurs.

    Args: reference: rows of a method that trains on everything.
    Returns: as `shares`, empty where no window is left; NaN where fewer than `LEAST_EXPECTED` samples would be
        expected, for chance alone would show.
    """
    counts, of_all = _counts(picks, column, num_bins), _counts(reference, column, num_bins).sum(axis=0)
    if counts.empty or of_all.empty:
        return pd.DataFrame()
    of_bins = (of_all / max(float(of_all.sum()), 1.0)).to_numpy(dtype=float)
    expected = counts.sum(axis=1).to_numpy(dtype=float)[:, None] * of_bins[None, :]
    found = counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0).div(np.where(of_bins > 0, of_bins, np.nan))
    return found.where(expected >= LEAST_EXPECTED)


def _counts(picks: pd.DataFrame, column: str, num_bins: int | None) -> pd.DataFrame:
    """Counts of each window, summed over trials, and over neighbouring bins where there are more than asked for."""
    num_trials = picks["trial_id"].nunique()
    rows = {
        epoch: np.stack(list(window)).sum(axis=0)
        for epoch, window in picks.groupby("epoch")[column]
        if 2 * len(window) > num_trials
    }
    counts = pd.DataFrame.from_dict(rows, orient="index").sort_index()
    if num_bins is None or counts.shape[1] <= num_bins:
        return counts
    edges = np.linspace(0, counts.shape[1], num_bins + 1).astype(int)[:-1]
    return pd.DataFrame(np.add.reduceat(counts.to_numpy(), edges, axis=1), index=counts.index)


def confidence_bins() -> list[str]:
    """How the bins of `by_confidence` read, from the least to the most confident."""
    edges = [f"{edge:g}" for edge in CONFIDENCE_EDGES]
    return [
        f"< {edges[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(edges)),
        f"≥ {edges[-1]}",
    ]
