"""What the sampler picked: the share of each class and of each level of teacher confidence, over the epochs."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from kdas.errors import UserError, make_command
from kdas.records import CONFIDENCE_EDGES, PICKS_COLUMNS

FILE = "picks.parquet"
LEAST_EXPECTED = 10


def load_picks(sweep_directory: Path | str) -> pd.DataFrame:
    """The table of picks: one row per window of epochs, no rows if the sweep recorded none.

    Returns: the columns `kdas.records.PICKS_COLUMNS`; `by_class` [C] and `by_confidence` [K] count samples.
    Raises: UserError: if the file is not readable or lacks a column.
    """
    path = Path(sweep_directory) / FILE
    if not path.is_file():
        return pd.DataFrame(columns=list(PICKS_COLUMNS))
    try:
        picks = pd.read_parquet(path, engine="pyarrow", partitioning=None)
    except (ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path}: cannot be read as Parquet ({reason}). Run {make_command('report')} to rebuild it."
        ) from error
    missing = [name for name in PICKS_COLUMNS if name not in picks.columns]
    if missing:
        raise UserError(f"{path}: missing columns: {', '.join(missing)}. Run {make_command('report')} to rebuild it.")
    return picks[list(PICKS_COLUMNS)]


def shares(picks: pd.DataFrame, column: str, num_bins: int | None = None) -> pd.DataFrame:
    """The share of each bin among the samples trained on, over all trials together.

    Args: picks: rows of one configuration; column: `by_class` or `by_confidence`; num_bins: merge neighbouring bins
        down to this number.
    Returns: one row per window (index: its last epoch), one column per bin; rows sum to 1. A window that at most half
        of the trials have is left out: there, single trials stopped early.
    """
    counts = _counts(picks, column, num_bins)
    return counts.div(counts.sum(axis=1).replace(0, np.nan), axis=0)


def relative_shares(
    picks: pd.DataFrame, reference: pd.DataFrame, column: str, num_bins: int | None = None
) -> pd.DataFrame:
    """`shares` divided by the share of each bin in the reference: 2 means picked twice as often as it occurs.

    Args: reference: rows of a method that trains on everything.
    Returns: as `shares`, empty if no window is left; NaN where fewer than `LEAST_EXPECTED` samples are expected, since
        the value would be mostly chance.
    """
    counts, of_all = _counts(picks, column, num_bins), _counts(reference, column, num_bins).sum(axis=0)
    if counts.empty or of_all.empty:
        return pd.DataFrame()
    of_bins = (of_all / max(float(of_all.sum()), 1.0)).to_numpy(dtype=float)
    expected = counts.sum(axis=1).to_numpy(dtype=float)[:, None] * of_bins[None, :]
    found = shares(picks, column, num_bins).div(np.where(of_bins > 0, of_bins, np.nan))
    return found.where(expected >= LEAST_EXPECTED)


def _counts(picks: pd.DataFrame, column: str, num_bins: int | None) -> pd.DataFrame:
    """Counts of each window, summed over trials, with neighbouring bins merged down to `num_bins`."""
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
    """Labels of the bins of `by_confidence`, from the least to the most confident."""
    edges = [f"{edge:g}" for edge in CONFIDENCE_EDGES]
    return [
        f"< {edges[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(edges)),
        f"≥ {edges[-1]}",
    ]
