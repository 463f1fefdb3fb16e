"""Losses by samplers: which rows the table shows, and against what."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from analysis.findings.crossed import crossed
from analysis.findings.gather import findings
from analysis.page import tables
from kdas.records import Measure
from tests.places import STORED_SWEEP


@pytest.fixture(scope="module")
def stored() -> Any:
    return findings(STORED_SWEEP)


def made(stored: Any, rows: list[tuple[str, str, str, float, int]]) -> tuple[pd.DataFrame, pd.DataFrame, Measure]:
    """A summary with rows (method, loss, sampler, ratio to the baseline, trials that reached of 3), and its trials."""
    template = stored.summary[stored.summary["phase"] == "search"].iloc[0].to_dict()
    of_baseline = next(reached for method, _, _, _, reached in rows if method == "plain")
    summary = pd.DataFrame(
        {
            **template,
            "method": method,
            "config_id": f"id{number}",
            "phase": "search",
            "decides": True,
            "num_trials": 3,
            "num_reached": reached,
            "full_mark": {(3, 3): "", (3, 2): "<=", (2, 3): ">=", (2, 1): "~", (2, 2): "~"}[of_baseline, reached],
            "full_ratio": ratio,
            "full_at_most": ratio,
            "full_pairs": 3,
            "num_open": 0,
            "full_low": 0.9 * ratio,
            "full_high": 1.1 * ratio,
        }
        for number, (method, _, _, ratio, reached) in enumerate(rows)
    )
    trials = pd.DataFrame(
        {"config_id": f"id{number}", "loss": loss, "sampler.name": sampler}
        for number, (_, loss, sampler, _, _) in enumerate(rows)
    )
    return summary, trials, replace(stored.measure, baseline="plain")


def shown(content: tables.Table) -> list[list[str]]:
    return [[column.header for column in content.columns], *map(list, content.rows)]


def test_each_pair_of_loss_and_sampler_is_a_cell_compared_with_the_baseline(stored: Any) -> None:
    summary, trials, measure = made(
        stored,
        [
            ("at_kdas", "at p 2.0", "kdas", 1.5, 3),
            ("half", "kd temperature 4.0", "full", 1.3, 3),
            ("plain", "kd temperature 4.0", "full", 1.0, 3),
            ("at_kdas_slow", "at p 2.0", "kdas", 0.9, 3),
            ("kd_random", "kd temperature 4.0", "random", 1.02, 2),
        ],
    )
    assert shown(tables.crossed_table(crossed(summary, trials, measure), measure)) == [
        ["loss", "full", "random", "kdas"],
        ["kd", "1x (baseline)", "[0.92, 1.12] <= 1.02x, 1 of 3 missed", "–"],
        ["at", "–", "–", "1.50x [1.35, 1.65]"],
    ]


def test_ratios_are_bounds_from_below_where_the_baseline_missed(stored: Any) -> None:
    rows = [("plain", "kd", "full", 1.0, 2), ("a", "at", "kdas", 2.0, 3), ("b", "at", "full", 2.0, 1)]
    summary, trials, measure = made(stored, rows)
    table = shown(tables.crossed_table(crossed(summary, trials, measure), measure))
    assert table[1] == ["kd", "1x (baseline), 1 of 3 missed", "–"]
    assert table[2] == ["at", "~ 2.00x [1.80, 2.20], 2 of 3 missed", ">= 2.00x [1.80, 2.20]"]


def test_two_settings_of_a_loss_are_told_apart(stored: Any) -> None:
    rows = [("plain", "kd temperature 4.0", "full", 1.0, 3), ("warm", "kd temperature 8.0", "kdas", 1.0, 3)]
    summary, trials, measure = made(stored, rows)
    assert list(crossed(summary, trials, measure)["loss"]) == ["kd temperature 4.0", "kd temperature 8.0"]


def test_a_sweep_with_one_loss_has_no_such_table(stored: Any) -> None:
    assert not len(stored.crossed)
    assert not tables.crossed_table(stored.crossed, stored.measure).rows
