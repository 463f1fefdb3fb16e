"""Several sweeps side by side: cells of one sweep, or any sweeps."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis import wording
from analysis.findings.answer import answer
from analysis.findings.gather import Findings
from analysis.findings.judgement import judge
from analysis.findings.profiles import profile_table
from analysis.findings.summary import deciding_phase, fastest, plain_methods, summarize
from analysis.statistics.interval import LEVEL
from kdas.errors import UserError

_DESCRIBED = "The scores describe these samples and claim nothing."


@dataclass(frozen=True)
class Overview:
    """What several sweeps show together.

    - `cells`: one row per method and sweep, its fastest configuration there: `method`, `cell`, `time` (mean upper
      bound, inf if half of the seeds or more missed) and the columns of `analysis.findings.summary.summarize`.
    - `profiles`: of `analysis.findings.profiles.profile_table`.
    - `together`: one summary of all trials; empty if `apart` says why their times are not comparable.
    - `answer`: what may be claimed: of `together`, or sweep by sweep if there is no such table.
    - `scores`: the profiles in words, which describe these samples and claim nothing.
    """

    sweeps: tuple[Findings, ...]
    cells: pd.DataFrame
    profiles: pd.DataFrame
    together: pd.DataFrame
    apart: str
    answer: str
    scores: str
    cautions: tuple[str, ...]


def overview(sweeps: Sequence[Findings]) -> Overview:
    """Put sweeps side by side.

    Raises: UserError: if there are fewer than two, or a duplicate.
    """
    names = [found.measure.sweep for found in sweeps]
    if len(set(names)) < len(names) or len(names) < 2:
        raise UserError(f"compare: expected two or more different sweeps, got {', '.join(names) or 'none'}. Name them.")
    cells = pd.concat([_fastest(found, baseline_of(sweeps)) for found in sweeps], ignore_index=True)
    profiles = profile_table(cells)
    apart = _apart([found.measure.calibration_id for found in sweeps], sweeps)
    together, claimed = (pd.DataFrame(), _claimed_apart(sweeps)) if apart else _together(sweeps)
    return Overview(
        sweeps=tuple(sweeps),
        cells=cells,
        profiles=profiles,
        together=together,
        apart=apart,
        answer=claimed,
        scores=_scores(sweeps, cells, profiles),
        cautions=tuple(_cautions(sweeps)),
    )


def baseline_of(sweeps: Sequence[Findings]) -> str:
    """The names of these sweeps' baselines, joined."""
    return " / ".join(dict.fromkeys(found.measure.baseline for found in sweeps))


def _fastest(found: Findings, baseline: str) -> pd.DataFrame:
    """Each method's fastest configuration of the deciding phase.

    Args: baseline: what the sweep's baseline is called, since all of them are one method.
    """
    rows = fastest(found.summary[found.summary["phase"] == deciding_phase(found.summary)])
    # The mean, by which the sweep's own answer is ordered.
    time_s = rows["mean_upper_s"].where(2 * rows["num_reached"] > rows["num_trials"], np.inf)
    # Not the reference, which may be plain distillation with fewer epochs: a method beside the baseline.
    method = rows["method"].mask(rows["method"] == found.measure.baseline, baseline)
    return rows.assign(method=method, cell=found.measure.sweep, time=time_s)


def _apart(calibrations: Sequence[str], sweeps: Sequence[Findings]) -> str:
    """Why times of these sweeps are not comparable, "" if they are."""
    # Those of the baseline: another method may have another teacher.
    of_baselines = [found.trials[found.trials["method"] == found.measure.baseline] for found in sweeps]
    tasks = {(row.dataset, row.pair) for trials in of_baselines for row in trials[["dataset", "pair"]].itertuples()}
    if len(tasks) > 1:
        return "Data sets or model pairs differ, so only ratios are comparable."
    targets = sorted({found.measure.target for found in sweeps})
    if len(targets) > 1:
        # Derived targets can differ in digits that are rounded away elsewhere.
        by_digits = ([f"{target * 100:.{digits}g}%" for target in targets] for digits in range(4, 17))
        shown = next(texts for texts in by_digits if len(set(texts)) == len(targets))
        one = f"Give all sweeps the same target, for example target: {targets[0]:.4g}."
        return f"Targets differ ({', '.join(shown)}), so only ratios are comparable. {one}"
    if len({found.measure.split for found in sweeps}) > 1:
        return "Different splits decide, so only ratios are comparable."
    if len({round(found.measure.budget_ref_s, 9) for found in sweeps}) > 1:
        return "Budgets differ, so misses count differently and only ratios are comparable."
    if "" in calibrations:
        return "The calibration of a sweep is unknown, so only ratios are comparable."
    if len(set(calibrations)) > 1:
        return "Calibrations differ, so reference seconds are different units and only ratios are comparable."
    return ""


def _together(sweeps: Sequence[Findings]) -> tuple[pd.DataFrame, str]:
    """One summary of all trials, and what may be claimed of it.

    Searched methods are prefixed with their sweep; shared baselines occur only once.
    """
    parts = []
    for found in sweeps:
        is_searched = found.times["method"].isin(found.summary.loc[found.summary["is_searched"].astype(bool), "method"])
        named = found.times["method"].where(~is_searched, f"{found.measure.sweep}: " + found.times["method"])
        parts.append(found.times.assign(method=named))
    # Copies of a trial have the same curve; the one with the most evaluations counts.
    times = pd.concat(parts, ignore_index=True).sort_values("num_evaluations", ascending=False, kind="stable")
    is_again = times.duplicated(["phase", "method", "trial_id"], keep="first")
    measure = replace(
        sweeps[0].measure,
        plain_methods=_union(plain_methods(found.measure) for found in sweeps),
        confirm_configs=_union(found.measure.confirm_configs for found in sweeps),
        confirm_seeds=(),
        confirm_level=min(found.measure.confirm_level for found in sweeps),
    )
    once = times[~is_again]
    summary = summarize(once, measure)
    claimed = answer(judge(once, summary, measure), measure)
    return summary, " ".join(
        filter(None, (claimed.headline, claimed.estimate and f"{claimed.estimate}.", claimed.slower))
    )


def _claimed_apart(sweeps: Sequence[Findings]) -> str:
    """What may be claimed of sweeps whose times are not comparable: what each of them claims by itself."""
    claims = []
    for found in sweeps:
        rows = found.summary[found.summary["config_id"] == found.answer.config_id].to_dict("records")
        if found.answer.is_claimed:
            claims.append(f"{wording.named(rows[0])} in {found.measure.sweep}")
    over = wording.plural(len(sweeps), "sweep")
    if not claims:
        return f"No setting was reliably faster than plain distillation in any of {over}."
    said = f"Reliably faster than plain distillation in {len(claims)} of {over}: {', '.join(claims)}."
    return f"{said} Each sweep keeps its own error rate of {LEVEL:.0%}, so over many sweeps expect some false ones."


def _union(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """All names, each once, in their order."""
    return tuple(dict.fromkeys(itertools.chain.from_iterable(names)))


def _scores(sweeps: Sequence[Findings], cells: pd.DataFrame, profiles: pd.DataFrame) -> str:
    num_cells = cells["cell"].nunique()
    absent_sweeps = len(sweeps) - num_cells
    over = wording.plural(num_cells, "sweep")
    if absent_sweeps:
        over += f" (without {absent_sweeps} that {'has' if absent_sweeps == 1 else 'have'} no result yet)"
    if profiles.empty or not (cells["time"] < np.inf).any():
        return f"No method reached the target on more than half of its seeds in any of {over}."
    is_best = np.isclose(profiles["score"], profiles["score"].iloc[0])
    best, first = " and ".join(map(str, profiles.index[is_best])), profiles.iloc[0]
    scores = ", ".join(f"{name} {score:.2f}" for name, score in zip(profiles.index, profiles["score"], strict=True))
    scores = f"Scores (1: the lowest mean time everywhere): {scores}."
    absent = profiles.index[profiles["num_cells"] < num_cells]
    missing = f" Not run in every sweep, which counts as a miss: {', '.join(map(str, absent))}." if len(absent) else ""
    if is_best.sum() > 1:
        return f"{_DESCRIBED} {best} have the same score over {over}. {scores}{missing}"
    num_fastest = round(first["share_best"] * num_cells)
    return (
        f"{_DESCRIBED} {best} has the best score over {over}: lowest mean time in {num_fastest or 'none'}, within "
        f"twice the lowest in {first['share_within_2']:.0%}. {scores}{missing}"
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
        texts.append(f"{', '.join(searched)}: not confirmed on fresh seeds, so searched settings look too good.")
    return texts
