"""Everything that a report shows, computed once, so that page, terminal, files and notebooks agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import wording
from analysis.curves import load, load_trials
from analysis.findings.answer import Answer, answer
from analysis.findings.anytime import anytime_curve
from analysis.findings.cautions import cautions
from analysis.findings.cautions_of_data import Caution
from analysis.findings.crossed import crossed
from analysis.findings.importance import importance
from analysis.findings.judgement import Judgement, judge
from analysis.findings.pareto import pareto_front
from analysis.findings.payback import Payback, payback
from analysis.findings.summary import RESAMPLING_SEED, deciding_phase, of_completed_looks, summarize
from analysis.findings.targets import OtherTargets, at_target, target_deviation
from analysis.findings.timing import slowdown_by_method, timing_check
from analysis.findings.trial_times import trial_times
from analysis.record.measure import load_by_hand, load_environment, load_measure
from analysis.record.picks import load_picks
from analysis.statistics.compare import Comparison
from kdas.errors import UserError
from kdas.records import Measure, is_searched


@dataclass(frozen=True)
class Findings:
    """The tables of a sweep and the results; if `importance` is empty, `importance_refused` says why.

    `own_target`: of the sweep; the results may be at another one.
    """

    measure: Measure
    own_target: float
    payback: Payback | None
    by_target: pd.DataFrame
    curves: pd.DataFrame
    trials: pd.DataFrame
    times: pd.DataFrame
    summary: pd.DataFrame
    crossed: pd.DataFrame
    picks: pd.DataFrame
    front: pd.DataFrame
    anytime: pd.DataFrame
    importance: pd.DataFrame
    importance_refused: str
    timing: pd.DataFrame
    answer: Answer
    cautions: tuple[Caution, ...]
    environment: dict[str, str]
    sweep_text: str

    @property
    def search_reference(self) -> wording.Row | None:
        """The summary's row of the fastest plain setting on the seeds of the search, None without one."""
        is_it = self.summary["is_reference"].astype(bool) & (self.summary["phase"] == "search")
        return next(iter(self.summary[is_it].to_dict("records")), None)


def findings(sweep_directory: Path | str, target: float | None = None) -> Findings:
    """Load a sweep directory and compute what all outputs show. Args: target: another one than the sweep's own.

    Raises: UserError: if a table is missing, truncated or of another shape, or the target is no fraction.
    """
    directory = Path(sweep_directory)
    every_curve, trials, measure = load(directory), load_trials(directory), load_measure(directory)
    curves = every_curve[every_curve["trial_id"].isin(trials["trial_id"])]
    own_target = measure.target
    if target is not None and target != own_target:
        trials, measure = at_target(curves, trials, measure, target)
    every_time = trial_times(curves, trials, measure)
    times, measure = of_completed_looks(every_time, measure)
    summary = summarize(times, measure)
    judged = judge(times, summary, measure)
    others = OtherTargets(curves, times, summary, measure)
    won = answer(judged, measure, _near(others, judged, measure))
    generator = np.random.default_rng(RESAMPLING_SEED)
    searched = times[times["method"].map(is_searched).astype(bool) & (times["phase"] == "search")]
    ranked, refused = _importance(times, trials, measure, generator)
    timing, picks = timing_check(curves), load_picks(directory)
    environment = load_environment(directory)
    return Findings(
        measure=measure,
        own_target=own_target,
        payback=payback(times, judged),
        by_target=others.picture(),
        curves=curves,
        trials=trials,
        times=times,
        summary=summary,
        crossed=crossed(summary, trials, measure),
        picks=picks,
        front=pareto_front(times[times["phase"] == deciding_phase(summary)], generator=generator),
        anytime=anytime_curve(searched, num_seeds=len(measure.seeds)),
        importance=ranked,
        importance_refused=refused,
        timing=timing,
        answer=won,
        cautions=tuple(
            cautions(
                summary,
                every_time,
                every_curve,
                trials,
                measure,
                won,
                timing,
                slowdown_by_method(curves),
                picks,
                environment,
                own_target,
                load_by_hand(directory),
            )
        ),
        environment=environment,
        sweep_text=_sweep_text(directory / "sweep.yaml"),
    )


def _near(others: OtherTargets, judged: Judgement, measure: Measure) -> list[tuple[float, Comparison]]:
    """What the answer compares, at the target one standard deviation lower and higher."""
    deviation, (quoted, reference) = target_deviation(others.times, measure), judged.quoted
    if not deviation > 0 or quoted is None or reference is None:
        return []
    targets = [measure.target - deviation, min(measure.target + deviation, 1.0)]
    return list(zip(targets, others.compare(str(judged.rows[quoted]["config_id"]), targets), strict=True))


def _sweep_text(file: Path) -> str:
    """The resolved sweep, "" if there is none. It is only shown."""
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: is damaged (not UTF-8 text). Restore it from a copy.") from error


def _importance(
    times: pd.DataFrame, trials: pd.DataFrame, measure: Measure, generator: np.random.Generator
) -> tuple[pd.DataFrame, str]:
    try:
        return importance(times, trials, measure, generator=generator), ""
    except UserError as refused:
        return pd.DataFrame(), str(refused)
