"""The confirmation: finalists and baselines on fresh seeds, all at once or in looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kdas.records import COMPLETE_STATUSES, Measure
from sweeps.engine.plan import Plan
from sweeps.engine.sequential import LEAST_CHANCE, Times, chance_of_decision, is_decided, level_at
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import time_to_target
from sweeps.record.trial import TrialFolder


class Confirmation:
    """Which seeds are next, and whether any are. Call it only while no job waits or runs.

    A sweep that resumes does not go back to an earlier look: a trial that had crashed may have succeeded since.
    """

    def __init__(self, plan: Plan, directory: SweepDirectory) -> None:
        self._plan, self._directory = plan, directory
        self._looks = plan.looks
        # After the latest look; 0 before the first.
        self._num_seeds = 0
        self.is_over = False

    @property
    def has_begun(self) -> bool:
        return self._num_seeds > 0 or self.is_over

    def next_look(self, finalists: Sequence[Job], measure: Measure) -> tuple[list[Job], Measure]:
        """Take the next look, or none if the last one settles it.

        Args: finalists: one job of each finalist.
        Returns: all jobs of the confirmation so far, and the measure with its seeds and level; no jobs once it is over.
        """
        so_far = self._plan.confirmation(finalists, self._num_seeds)
        if not self._looks or (so_far and self._settled_by(so_far, measure)):
            self.is_over = True
            return [], measure
        configs = tuple(dict.fromkeys(job.config_id for job in self._plan.confirmation(finalists, 1)))
        is_known = set(measure.confirm_configs) == set(configs)
        known, before = (len(measure.confirm_seeds), measure.last_look) if is_known else (0, 0)
        later = [look for look in self._looks if look > self._num_seeds]
        last_look = self._num_seeds or before
        self._num_seeds = next((look for look in later if look >= known), self._looks[-1])
        # Nothing follows the last look, so it need not be judged.
        self.is_over = self._num_seeds == self._looks[-1]
        jobs = self._plan.confirmation(finalists, self._num_seeds)
        num_comparisons = max(1, len(configs) - 1)
        # Early stopping, a spent budget or an earlier confirmation make it another number than the plan's.
        trials = {folder.path.name for folder in self._directory.trials()} | {job.trial_id for job in jobs}
        return jobs, replace(
            measure,
            confirm_configs=configs,
            confirm_seeds=tuple(dict.fromkeys(job.config.seed for job in jobs)),
            confirm_level=num_comparisons * level_at(self._looks, num_comparisons),
            num_planned_trials=len(trials),
            last_look=last_look,
        )

    def ending(self, finalists: Sequence[Job], measure: Measure) -> str:
        """Why no more seeds were added, in a sentence; empty if their number was fixed. Call it at the end."""
        jobs = self._plan.confirmation(finalists, self._num_seeds)
        if self._plan.confirm is None or self._plan.confirm.until is None or not jobs:
            return ""
        why = self._settled_by(jobs, measure)
        reason = f": {why}" if why else ", the most: its answer is not decided"
        return f"The confirmation ended after {self._num_seeds} fresh seeds{reason}."

    def _settled_by(self, jobs: Sequence[Job], measure: Measure) -> str:
        """Why more seeds are not needed, in words; empty if they are. Args: jobs: all of the confirmation so far."""
        plain_methods = measure.plain_methods or (measure.baseline,)
        plain, candidates = (
            self._times([job for job in jobs if (job.method in plain_methods) is is_plain], measure)
            for is_plain in (True, False)
        )
        if not plain or not candidates:
            return "there is nothing to compare"
        level = level_at(self._looks, len(plain) + len(candidates) - 1)
        if is_decided(plain, candidates, level):
            return "its answer is decided"
        # Two looks show a spread better than one.
        later = [look for look in self._looks if look > self._num_seeds]
        is_first = self._num_seeds == self._looks[0]
        if is_first or not later or chance_of_decision(plain, candidates, level, later) >= LEAST_CHANCE:
            return ""
        return f"by {later[-1]}, a decision is unlikely"

    def _times(self, jobs: Sequence[Job], measure: Measure) -> list[Times]:
        found: dict[str, list[tuple[float, float, float]]] = {}
        for job in jobs:
            folder = self._directory.trial(job.trial_id)
            found.setdefault(job.config_id, []).append(_bounds_and_gap(folder, measure))
        columns = [np.array(of_seeds).T for of_seeds in found.values()]
        return [Times(lower_s, upper_s, float(gaps_s.mean())) for lower_s, upper_s, gaps_s in columns]


def _bounds_and_gap(folder: TrialFolder, measure: Measure) -> tuple[float, float, float]:
    """Bounds on the restricted time of a trial that has ended, and the cost between its hit and the evaluation before.

    A miss counts as the budget, and a crash leaves the time open; neither has a gap.
    """
    rows = folder.rows()
    time_s = time_to_target(rows, measure.target)
    if time_s <= measure.budget_ref_s:
        return time_s, time_s, time_s - max((r.row.cost_ref_s for r in rows if r.row.cost_ref_s < time_s), default=0.0)
    if math.isfinite(time_s) or folder.status in COMPLETE_STATUSES:
        return measure.budget_ref_s, measure.budget_ref_s, 0.0
    spent_s = rows[-1].row.cost_ref_s if rows else 0.0
    return min(spent_s, measure.budget_ref_s), measure.budget_ref_s, 0.0
