"""Several sweeps side by side: cells of one, or any that were run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis import wording
from analysis.findings import Findings
from analysis.profiles import profile_table
from analysis.summary import deciding_phase, summarize_times
from kdas.records import UserError


@dataclass(frozen=True)
class Overview:
    """What several sweeps say together.

    `cells`: a row a method and sweep, its soonest configuration there: `method`, `cell`, `time` (median, inf for a
    miss) and the columns of `analysis.summary.summarize`. `profiles`: of `analysis.profiles.profile_table`. `together`:
    one summary over the trials of all, empty where `apart` says why their times cannot be compared.
    """

    sweeps: tuple[Findings, ...]
    cells: pd.DataFrame
    profiles: pd.DataFrame
    together: pd.DataFrame
    apart: str
    answer: str
    cautions: tuple[str, ...]


def overview(sweeps: Sequence[Findings]) -> Overview:
    """Put sweeps side by side.

    Raises: UserError: if fewer than two are given, or one twice.
    """
    names = [found.measure.sweep for found in sweeps]
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"{', '.join(names) or 'no sweep'}: give two or more different sweeps to compare.")
    cells = pd.concat([_soonest(found) for found in sweeps], ignore_index=True)
    profiles = profile_table(cells)
    apart = _apart([found.measure.calibration_id for found in sweeps], sweeps)
    return Overview(
        sweeps=tuple(sweeps),
        cells=cells,
        profiles=profiles,
        together=pd.DataFrame() if apart else _together(sweeps),
        apart=apart,
        answer=_answer(cells, profiles),
        cautions=tuple(_cautions(sweeps)),
    )


def _soonest(found: Findings) -> pd.DataFrame:
    """Each method's soonest configuration of the phase that decides."""
    deciding = found.summary[found.summary["phase"] == deciding_phase(found.summary)]
    rows = deciding.drop_duplicates("method")
    return rows.assign(cell=found.measure.sweep, time=rows["tta_ref_s"])


def _apart(calibrations: Sequence[str], sweeps: Sequence[Findings]) -> str:
    """Why times of these sweeps cannot stand in one table, "" if they can."""
    tasks = {(row.dataset, row.pair) for found in sweeps for row in found.trials[["dataset", "pair"]].itertuples()}
    if len(tasks) > 1:
        return "They are of different data sets or model pairs, so only ratios compare."
    targets = sorted({wording.goal(found.measure.target) for found in sweeps})
    if len({found.measure.target for found in sweeps}) > 1:
        return (
            f"Their targets differ ({', '.join(targets)}), so only ratios compare. Give them one: target: {targets[0]}."
        )
    if len({found.measure.split for found in sweeps}) > 1:
        return "Different splits decide their targets, so only ratios compare."
    if len({round(found.measure.tau_ref_s, 9) for found in sweeps}) > 1:
        return "Their budgets differ, and with them what a miss counts as."
    if len(set(calibrations)) > 1:
        return "Their trials were priced by different calibrations, so their reference seconds are different units."
    return ""


def _together(sweeps: Sequence[Findings]) -> pd.DataFrame:
    """One summary of all trials: searched configurations under the name of their sweep, shared baselines once."""
    parts = []
    for found in sweeps:
        is_searched = found.times["method"].isin(found.summary.loc[found.summary["is_searched"].astype(bool), "method"])
        named = found.times["method"].where(~is_searched, f"{found.measure.sweep}: " + found.times["method"])
        parts.append(found.times.assign(method=named))
    times = pd.concat(parts, ignore_index=True)
    # The same trial is the same curve, whichever sweep trained it.
    is_again = times.duplicated(["phase", "method", "trial_id"], keep="first")
    return summarize_times(times[~is_again], sweeps[0].measure)


def _answer(cells: pd.DataFrame, profiles: pd.DataFrame) -> str:
    num_cells = cells["cell"].nunique()
    passed = cells[cells["time"] < float("inf")]
    if passed.empty:
        return f"In none of {num_cells} sweeps has a method reached the target on half of its seeds."
    wins = passed.loc[passed.groupby("cell")["time"].idxmin(), "method"].value_counts()
    best, first = str(profiles.index[0]), profiles.iloc[0]
    scores = ", ".join(f"{name} {score:.2f}" for name, score in zip(profiles.index, profiles["score"], strict=True))
    return (
        f"{best} does best over {num_cells} sweeps: soonest in {int(wins.get(best, 0))} of them, and within twice the "
        f"best time in {first['share_within_2']:.0%}. Scores, where 1 is the best everywhere: {scores}."
    )


def _cautions(sweeps: Sequence[Findings]) -> list[str]:
    texts = [
        f"{found.measure.sweep}: {caution.text}"
        for found in sweeps
        for caution in found.cautions
        if caution.place == "answer"
    ]
    searched = [found.measure.sweep for found in sweeps if deciding_phase(found.summary) == "search"]
    if searched:
        texts.append(
            f"{', '.join(searched)}: no confirmed numbers, so a searched setting is flattered by its own seeds."
        )
    return texts
