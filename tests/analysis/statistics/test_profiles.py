"""Golden tests G9 and G10: profiles, the expected best of a search, its progress and its front."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.findings.anytime import anytime_curve
from analysis.findings.pareto import pareto_front
from analysis.findings.profiles import profile_table
from analysis.statistics.anytime import expected_best_curve
from analysis.statistics.pareto import is_on_front
from analysis.statistics.profiles import profile, ratios_to_best, score

CELLS = [[10, 20, 30, math.inf], [20, 10, 45, 40], [15, 50, math.inf, 20]]


def test_g9_profiles_and_their_exact_scores() -> None:
    ratios = ratios_to_best(CELLS)
    assert profile(ratios, 1).tolist() == [0.5, 0.25, 0.25]
    assert profile(ratios, 2).tolist() == [0.75, 1, 0.5]
    assert score(ratios) == pytest.approx([0.666667, 0.791667, 0.458333], abs=1e-6)


@given(
    st.lists(st.lists(st.one_of(st.just(math.inf), st.floats(1, 500)), min_size=3, max_size=3), min_size=1, max_size=5)
)
def test_the_score_is_the_integral_of_the_profile(cells: list[list[float]]) -> None:
    ratios = ratios_to_best(np.array(cells).T)
    factors = np.linspace(1, 4, 3001)
    heights = np.stack([profile(ratios, factor) for factor in factors], axis=1)
    assert score(ratios) == pytest.approx(np.trapezoid(heights, factors, axis=1) / 3, abs=2e-3)


def test_a_cell_that_nobody_passed_counts_for_nobody() -> None:
    table = profile_table(
        pd.DataFrame(
            [("a", "x", 10.0), ("b", "x", 30.0), ("a", "y", math.inf), ("b", "y", math.inf)],
            columns=["method", "cell", "time"],
        )
    )
    assert table.loc["a", "score"] == 0.5 and table.loc["b", "score"] == pytest.approx(1 / 6)
    assert table["share_best"].tolist() == [0.5, 0.0] and table["num_cells"].tolist() == [2, 2]


def test_g10_best_of_two_of_four() -> None:
    assert expected_best_curve([1, 2, 3, 4])[1] == pytest.approx(1.6667, abs=1e-4)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=6), st.data())
def test_the_expected_best_is_the_mean_over_all_choices(values: list[int], data: st.DataObject) -> None:
    num_tries = data.draw(st.integers(1, len(values)))
    choices = [min(choice) for choice in itertools.combinations(values, num_tries)]
    assert expected_best_curve(values)[num_tries - 1] == pytest.approx(np.mean(choices))


def test_misses_make_the_expectation_infinite_until_they_cannot_be_all() -> None:
    assert expected_best_curve([3.0, math.inf, 5.0]).tolist() == [math.inf, pytest.approx(11 / 3), 3.0]


def test_the_anytime_curve_counts_losers_and_waits_for_all_seeds() -> None:
    rows = [
        ("a", 0, 100.0, 80.0, 1.0, "reached"),
        ("b", 0, 40.0, 30.0, 2.0, "reached"),
        ("a", 1, 100.0, 60.0, 3.0, "reached"),
        ("c", 0, 20.0, 200.0, 4.0, "capped"),
        ("b", 1, 40.0, 50.0, 5.0, "reached"),
        ("d", 0, 7.0, 200.0, math.nan, "running"),
        ("c", 1, 0.0, 200.0, math.nan, "capped"),
    ]
    columns = ["config_id", "seed", "last_cost_ref_s", "upper_s", "ended_at", "status"]
    curve = anytime_curve(pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=3), num_seeds=2)
    assert curve["config_id"].tolist() == ["a", "c", "b"]
    assert curve["spent_ref_s"].tolist() == [240.0, 260.0, 300.0]
    assert curve["value_s"].tolist() == [70.0, 200.0, 40.0] and curve["best_s"].tolist() == [70.0, 70.0, 40.0]


def test_the_front_keeps_what_nothing_beats() -> None:
    accuracy = [0.90, 0.92, 0.92, 0.91, math.nan, 0.92]
    cost = [10, 20, 30, 20, 1, 20]
    assert is_on_front(accuracy, cost).tolist() == [True, True, False, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=20))
def test_the_front_is_what_its_definition_says(points: list[tuple[int, int]]) -> None:
    def beats(one: tuple[int, int], other: tuple[int, int]) -> bool:
        return one != other and one[0] >= other[0] and one[1] <= other[1]

    expected = [not any(beats(other, point) for other in points) for point in points]
    assert is_on_front(*zip(*points, strict=True)).tolist() == expected


def test_inclusion_says_how_firm_a_place_on_the_front_is(generator: np.random.Generator) -> None:
    rows = [
        {"phase": "search", "method": "m", "configuration": name, "config_id": name, "seed": seed, "is_whole": True,
         "best_accuracy": accuracy + wobble * (-1) ** seed, "best_accuracy_at_s": cost}
        for name, accuracy, cost, wobble in (("cheap", 0.8, 10.0, 0.0), ("good", 0.9, 20.0, 0.0),
                                             ("beaten", 0.7, 30.0, 0.0), ("close", 0.899, 19.0, 0.15))
        for seed in range(4)
    ]  # fmt: skip
    front = pareto_front(pd.DataFrame(rows), generator=generator).set_index("config_id")
    assert front["is_on_front"].to_dict() == {"cheap": True, "good": True, "beaten": False, "close": True}
    assert front.loc["cheap", "inclusion"] == 1 and front.loc["beaten", "inclusion"] == 0
    assert 0.5 < front.loc["close", "inclusion"] < 1


def test_what_was_stopped_has_no_place_on_the_front(generator: np.random.Generator) -> None:
    times = pd.DataFrame(
        [{"phase": "search", "method": "m", "configuration": "x", "config_id": "x", "seed": 0, "is_whole": False,
          "best_accuracy": 0.9, "best_accuracy_at_s": 5.0}]
    )  # fmt: skip
    assert pareto_front(times, generator=generator).empty
