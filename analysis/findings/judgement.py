"""Which claims about a sweep hold, from the trials of the phase that decides."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pandas as pd

from analysis.findings.groups import Trials, groups_of, trials_by_seed
from analysis.findings.summary import deciding_phase, level_of
from analysis.statistics.compare import Comparison, compare
from analysis.statistics.verdict import (
    Verdict,
    decide,
    detectable_ratio,
    level_of_slower,
    simultaneous_level,
    slower_than,
    spread,
)
from analysis.wording import Row
from kdas.records import Measure


@dataclass(frozen=True)
class Judgement:
    """The deciding rows of the summary, the fastest first, what may be claimed of them, and how surely.

    `level`: of each comparison; all of them together keep that of the phase. `slower`: settings that are slower than
    the reference beyond doubt, none of them plain.
    """

    phase: str
    rows: Sequence[Row]
    trials: Sequence[Trials]
    level: float
    verdict: Verdict
    slower: tuple[int, ...]

    @property
    def quoted(self) -> tuple[int | None, int | None]:
        """The setting that the answer gives a ratio of, and the one that it is compared with."""
        found = self.verdict
        if found.reference is None:
            # Nothing is plain: the fastest against the next.
            return (0, 1) if len(self.rows) > 1 else (None, None)
        quoted = found.best
        if found.winner is not None and not self.rows[found.winner]["is_plain"]:
            quoted = found.winner
        if quoted is None:
            quoted = next((place for place in range(len(self.rows)) if place != found.reference), None)
        return quoted, found.reference

    def compare(self, candidate: int, reference: int) -> Comparison:
        """Two of the rows, at the simultaneous level."""
        return compare(self.trials[reference], self.trials[candidate], level=self.level)

    def detectable(self, comparison: Comparison) -> float:
        """The true ratio to each of `num_to_beat` settings that this number of seeds shows in most sweeps.

        NaN if the spread is not known.
        """
        known = self._known
        if len(known) < 2:
            return math.nan
        seeds = sorted(set.intersection(*(set(each) for each in known)))
        if len(seeds) < 2:
            return math.nan
        times_s = np.array([[each[seed].upper_s for seed in seeds] for each in known])
        return detectable_ratio(
            *spread(times_s), comparison.num_pairs, self.level, comparison.beyond_seeds, self.num_to_beat
        )

    @property
    def num_to_beat(self) -> int:
        """How many settings the quoted one has to beat before it is claimed: all plain ones; without any, all."""
        others = [row for place, row in enumerate(self.rows) if place != self.quoted[0]]
        return sum(bool(row["is_plain"]) for row in others) or len(others)

    @property
    def has_looked_more_than_once(self) -> bool:
        """Whether the number of seeds depends on what they showed: then each comparison has a stricter level."""
        return self.level < simultaneous_level(len(self.rows))

    @property
    def _known(self) -> list[Trials]:
        """Trials of the settings whose times are known, and of which at least one reached the target."""
        both = zip(self.rows, self.trials, strict=True)
        return [trials for row, trials in both if row["num_reached"] and not row["num_open"]]


def judge(times: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Judgement:
    """What holds in the deciding phase. Args: times: of `trial_times`; summary: of `summarize`."""
    phase = deciding_phase(summary)
    rows = cast(list[Row], summary[summary["phase"] == phase].to_dict("records"))
    groups = groups_of(times[times["phase"] == phase], ["method", "config_id"])
    trials = [trials_by_seed(groups[row["method"], row["config_id"]]) for row in rows]
    level = level_of(phase, len(rows), measure)

    @functools.cache
    def beats(one: int, other: int, level: float = level) -> bool:
        return compare(trials[other], trials[one], level=level, with_p=False).is_faster

    means, is_plain = [float(row["mean_upper_s"]) for row in rows], [bool(row["is_plain"]) for row in rows]
    verdict = decide(means, is_plain, beats)
    # The summary's reference: of plain settings with fewer seeds than others, a lucky one could have the lowest mean.
    reference = next((place for place, row in enumerate(rows) if row["is_reference"]), None)
    strict = functools.partial(beats, level=level_of_slower(level, sum(is_plain)))
    slower = slower_than(reference, is_plain, strict)
    return Judgement(phase, rows, trials, level, replace(verdict, reference=reference), slower)
