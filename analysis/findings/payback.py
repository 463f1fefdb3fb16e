"""How many later trainings repay a sweep."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from analysis.findings.judgement import Judgement


@dataclass(frozen=True)
class Payback:
    """What the sweep cost, and the number of later trainings to the target that save as much.

    `cost_s`: reference seconds of all trials, losers and baselines included. `trainings`, and the ends `least` and
    `most` that the ratio's interval gives; inf: never.
    """

    cost_s: float
    trainings: float
    least: float
    most: float


def payback(times: pd.DataFrame, judged: Judgement) -> Payback | None:
    """Of the setting that the answer is about, None if nothing is compared.

    Each later training to the target costs the setting's time in place of that of the fastest plain setting.
    """
    quoted, reference = judged.quoted
    if quoted is None or reference is None:
        return None
    found = judged.compare(quoted, reference)
    if math.isnan(found.ratio):
        return None
    cost_s = math.fsum(times["last_cost_ref_s"])
    plain_s = float(judged.rows[reference]["mean_upper_s"])

    def repaid(ratio: float) -> float:
        return cost_s / (plain_s * (1 - 1 / ratio)) if ratio > 1 else math.inf

    return Payback(cost_s, repaid(found.ratio), repaid(found.ratio_high), repaid(found.ratio_low))
