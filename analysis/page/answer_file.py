"""The answer of a sweep for programs: `answer.json`, with the numbers and the sentences of the report."""

from __future__ import annotations

import json
import math
from typing import Any

from analysis import wording
from analysis.findings.gather import Findings
from analysis.findings.summary import deciding_phase
from analysis.wording import Row

_NUMBERS = ("mean_lower_s", "mean_upper_s", "ratio", "ratio_low", "ratio_high")
_COUNTS = ("num_trials", "num_reached", "num_tuned")


def answer_json(found: Findings) -> str:
    """The content of `answer.json`. Numbers that are unknown or without bound are null."""
    return json.dumps(answer_content(found), indent=1, ensure_ascii=False) + "\n"


def answer_content(found: Findings) -> dict[str, Any]:
    """The verdict, the setting that its ratio is of, and the fastest setting of each method in the deciding phase."""
    phase = deciding_phase(found.summary)
    rows = found.summary[found.summary["phase"] == phase]
    methods = [_setting(row) for row in rows.drop_duplicates("method").to_dict("records")]
    quoted = rows[rows["config_id"] == found.answer.config_id].to_dict("records")
    return {
        "sweep": found.measure.sweep,
        "target": found.measure.target,
        "split": found.measure.split,
        "budget_ref_s": found.measure.budget_ref_s,
        "phase": phase,
        "verdict": found.answer.headline,
        "details": found.answer.qualified,
        "is_claimed": found.answer.is_claimed,
        "setting": _setting(quoted[0]) if quoted and found.answer.phase == phase else None,
        "methods": methods,
        "cautions": [caution.text for caution in found.cautions if caution.place == "answer"],
    }


def _setting(row: Row) -> dict[str, Any]:
    """One row of the summary, with its time and ratio in the words of the report."""
    return {
        **{name: str(row[name]) for name in ("method", "configuration", "config_id")},
        "is_reference": bool(row["is_reference"]),
        **{name: int(row[name]) for name in _COUNTS},
        **{name: float(row[name]) if math.isfinite(row[name]) else None for name in _NUMBERS},
        "tuned": wording.tuned(row),
        "time_text": wording.mean_time(row),
        "ratio_text": wording.ratio(row),
    }
