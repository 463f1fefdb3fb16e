"""Compares the curves of two runs of one sweep: `python same_curves.py RUNS_DIR OTHER_RUNS_DIR SWEEP`."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

# What a disturbance may change: seconds, neighbours, and whether a machine's bank had the teacher's answers already.
_OF_THE_RUN = {"wall_s", "eval_s", "data_s", "num_cotenants", "cost_as_run_s"}


def curves(runs: str, sweep: str) -> pd.DataFrame:
    table = pd.read_parquet(Path(runs) / sweep / "curves.parquet").sort_values(["trial_id", "step"])
    kept = [name for name in table if name not in _OF_THE_RUN]
    return table[kept].reset_index(drop=True)


if __name__ == "__main__":
    one, other, name = sys.argv[1:]
    pd.testing.assert_frame_equal(curves(one, name), curves(other, name), check_exact=True)
    print(f"{name}: the curves are equal, {curves(one, name)['trial_id'].nunique()} trials")
