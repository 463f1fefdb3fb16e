"""Several sweeps side by side: cells of one, or any that were run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.profiles import profile_table
from analysis.findings.summary import deciding_phase, soonest, summarize_times
from kdas.errors import UserError


@dataclass(frozen=True)
class Overview:
    """What several sweeps say together.

    `cells`: a row a method and sweep, its soonest configuration there: `method`, `cell`, `time` (the mean upper bound,
    inf where half of the seeds or more did not reach the target) and the columns of
    `analysis.findings.summary.summarize`. `profiles`: of `analysis.findings.profiles.profile_table`. `together`: one
    summary over the trials of all, empty where `apart` says why their times cannot be compared.
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
        raise UserError(f"{', '.join(names) or 'no sweep'}: expected two or more different sweeps to compare.")
    cells = pd.concat([_soonest(found) for found in sweeps], ignore_index=True)
    # A baseline is the same method whatever each sweep calls it.
    cells["method"] = cells["method"].mask(cells["is_baseline"].astype(bool), baseline_of(sweeps))
    profiles = profile_table(cells)
    apart = _apart([found.measure.calibration_id for found in sweeps], sweeps)
    return Overview(
        sweeps=tuple(sweeps),
        cells=cells,
        profiles=profiles,
        together=pd.DataFrame() if apart else _together(sweeps),
        apart=apart,
        answer=_answer(sweeps, cells, profiles),
        cautions=tuple(_cautions(sweeps)),
    )


def baseline_of(sweeps: Sequence[Findings]) -> str:
    """What the baselines of these sweeps are called together."""
    return " / ".join(dict.fromkeys(found.measure.baseline for found in sweeps))


def _soonest(found: Findings) -> pd.DataFrame:
    """Each method's soonest configuration of the phase that decides."""
    rows = soonest(found.summary[found.summary["phase"] == deciding_phase(found.summary)])
    # In the order of the sweep's own answer, which is that of the means.
    time_s = rows["mean_upper_s"].where(2 * rows["num_reached"] > rows["num_trials"], np.inf)
    return rows.assign(cell=found.measure.sweep, time=time_s)


def _apart(calibrations: Sequence[str], sweeps: Sequence[Findings]) -> str:
    """Why times of these sweeps cannot stand in one table, "" if they can."""
    tasks = {(row.dataset, row.pair) for found in sweeps for row in found.trials[["dataset", "pair"]].itertuples()}
    if len(tasks) > 1:
        return "They are of different data sets or model pairs, so only ratios compare."
    targets = sorted({found.measure.target for found in sweeps})
    if len(targets) > 1:
        # Targets that were derived can differ in digits that are rounded away elsewhere.
        by_digits = ([f"{target * 100:.{digits}g}%" for target in targets] for digits in range(4, 17))
        shown = next(texts for texts in by_digits if len(set(texts)) == len(targets))
        one = f"Give them one: target: {targets[0]:.4g}, say."
        return f"Their targets differ ({', '.join(shown)}), so only ratios compare. {one}"
    if len({found.measure.split for found in sweeps}) > 1:
        return "Different splits decide their targets, so only ratios compare."
    if len({round(found.measure.budget_ref_s, 9) for found in sweeps}) > 1:
        return "Their budgets differ, and with them what a miss counts as."
    if "" in calibrations:
        return "What their reference seconds were priced by is not known, so only ratios compare."
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
    # The same trial is the same curve, whichever sweep trained it: the copy that went furthest counts.
    times = pd.concat(parts, ignore_index=True).sort_values("num_evaluations", ascending=False, kind="stable")
    is_again = times.duplicated(["phase", "method", "trial_id"], keep="first")
    return summarize_times(times[~is_again], sweeps[0].measure)


def _answer(sweeps: Sequence[Findings], cells: pd.DataFrame, profiles: pd.DataFrame) -> str:
    num_cells = cells["cell"].nunique()
    absent_sweeps = len(sweeps) - num_cells
    over = wording.plural(num_cells, "sweep")
    if absent_sweeps:
        over += f" ({absent_sweeps} without a result yet left out)"
    if profiles.empty or not (cells["time"] < np.inf).any():
        return f"In none of {over} has a method reached the target on more than half of its seeds."
    is_best = np.isclose(profiles["score"], profiles["score"].iloc[0])
    best, first = " and ".join(map(str, profiles.index[is_best])), profiles.iloc[0]
    scores = ", ".join(f"{name} {score:.2f}" for name, score in zip(profiles.index, profiles["score"], strict=True))
    scores = f"Scores, where 1 is the best everywhere: {scores}."
    absent = profiles.index[profiles["num_cells"] < num_cells]
    missing = f" A sweep without it counts as a miss: {', '.join(map(str, absent))}." if len(absent) else ""
    if is_best.sum() > 1:
        return f"{best} do equally well over {over}. {scores}{missing}"
    return (
        f"{best} does best over {over}: soonest in {round(first['share_best'] * num_cells)} of them, and "
        f"within twice the best time in {first['share_within_2']:.0%}. {scores}{missing}"
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
