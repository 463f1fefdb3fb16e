"""Which parameter decides, on made-up searches with a known answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.findings.importance import importance
from analysis.findings.parameters import positions, searched_configurations, varied_parameters
from kdas.errors import UserError
from kdas.records import Measure

MEASURE = Measure(
    "made-up", 0.9, "", 100.0, "plain_kd", "validation", "c", "", (0,), 1, algorithm="random", log_parameters=("WIDE",)
)


def search(num: int, time_of: Callable[[float, float, str], float], seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Times and trials of a made-up search over a rate, a wide parameter and a choice, on two seeds."""
    generator = np.random.default_rng(seed)
    trials, times = [], []
    for index in range(num):
        rate, wide = generator.uniform(0.1, 0.9), 10 ** generator.uniform(-2, 3)
        choice = str(generator.choice(["a", "b", "c"]))
        for number in (0, 1):
            common = {"config_id": f"c{index}", "trial_id": f"c{index}-{number}", "phase": "search", "seed": number}
            time_s = time_of(rate, wide, choice) * (1 + 0.02 * generator.standard_normal())
            trials.append(
                common
                | {"method": "kdas_search", "sampler.rate": rate, "sampler.wide": wide, "loss": choice, "fixed": 1.0}
            )
            times.append(common | {"status": "reached", "reached": math.isfinite(time_s), "tta_ref_s": time_s})
    return pd.DataFrame(times), pd.DataFrame(trials)


def test_the_parameter_that_decides_is_ranked_first_and_firmly(generator: np.random.Generator) -> None:
    found = importance(*search(60, lambda rate, wide, choice: 10 + 60 * rate), MEASURE, generator=generator)
    assert found["parameter"].iloc[0] == "rate" and found["importance"].sum() == pytest.approx(1)
    assert (found["rank_low"].iloc[0], found["rank_high"].iloc[0]) == (1, 1)


def test_a_parameter_over_decades_is_read_by_its_logarithm(generator: np.random.Generator) -> None:
    found = importance(*search(60, lambda rate, wide, choice: 50 + 10 * math.log10(wide)), MEASURE, generator=generator)
    assert found["parameter"].iloc[0] == "wide"


def test_a_choice_and_misses_count(generator: np.random.Generator) -> None:
    times, trials = search(60, lambda rate, wide, choice: 20 if choice == "b" else math.inf)
    found = importance(times, trials, MEASURE, generator=generator)
    assert found["parameter"].iloc[0] == "loss"


def test_where_nothing_matters_ranks_are_open(generator: np.random.Generator) -> None:
    found = importance(*search(40, lambda rate, wide, choice: 30.0), MEASURE, generator=generator)
    assert (found["rank_high"] - found["rank_low"]).max() == 2


def test_a_parameter_under_a_condition_is_weighed_where_it_holds(generator: np.random.Generator) -> None:
    times, trials = search(60, lambda rate, wide, choice: 10 + 60 * rate)
    trials["sampler.period"] = np.where(trials["loss"] == "a", trials["sampler.wide"], np.nan)
    found = importance(times, trials, MEASURE, generator=generator)
    assert found["parameter"].iloc[0] == "rate" and set(found["parameter"]) == {"rate", "wide", "loss", "period"}


def test_what_is_not_known_is_left_out_and_what_ties_is_refused(generator: np.random.Generator) -> None:
    times, trials = search(40, lambda rate, wide, choice: 10 + 60 * rate)
    crashed = times["config_id"].isin(["c0", "c1", "c2"]) & (times["seed"] == 1)
    times.loc[crashed, ["status", "reached", "tta_ref_s"]] = ["crashed", False, math.inf]
    without = trials["config_id"].isin(["c0", "c1", "c2"])
    expected = importance(
        times[~times["config_id"].isin(["c0", "c1", "c2"])], trials[~without], MEASURE, generator=generator
    )
    found = importance(times, trials, MEASURE, generator=np.random.default_rng(7))
    assert found["importance"].tolist() == pytest.approx(expected["importance"].tolist())
    with pytest.raises(UserError, match="nothing tells them apart"):
        importance(times.assign(tta_ref_s=math.inf), trials, MEASURE, generator=generator)


def test_one_value_or_none_is_a_choice() -> None:
    _, trials = search(12, lambda rate, wide, choice: 30.0)
    configurations = searched_configurations(trials).assign(**{"sampler.clip": [0.5, None] * 6})
    parameter = next(each for each in varied_parameters(configurations) if each.name == "clip")
    assert not parameter.is_number and set(positions(configurations, parameter)) == {0.0, 1.0}


def test_a_search_that_learns_is_refused(generator: np.random.Generator) -> None:
    tables = search(20, lambda rate, wide, choice: 30.0)
    with pytest.raises(UserError, match=r"algorithm is tpe, .* algorithm: random"):
        importance(*tables, replace(MEASURE, algorithm="tpe"), generator=generator)


def test_too_little_to_tell_is_refused(generator: np.random.Generator) -> None:
    times, trials = search(6, lambda rate, wide, choice: 30.0)
    with pytest.raises(UserError, match=r"Only 6 configurations ended; importance needs 10 or more\."):
        importance(times, trials, MEASURE, generator=generator)
    one = trials.drop(columns=["sampler.wide", "loss"])
    with pytest.raises(UserError, match="varied 1 parameter"):
        importance(times, one, MEASURE, generator=generator)


def test_what_varied_and_where_it_stands() -> None:
    _, trials = search(30, lambda rate, wide, choice: 30.0)
    trials = trials.assign(price_round_1=np.linspace(0.9, 1.1, len(trials)))
    configurations = searched_configurations(trials)
    parameters = {each.name: each for each in varied_parameters(configurations, ["sampler.WIDE"])}
    assert set(parameters) == {"rate", "wide", "loss"}
    assert (parameters["rate"].is_log, parameters["wide"].is_log, parameters["loss"].is_number) == (False, True, False)
    for parameter in parameters.values():
        places = positions(configurations, parameter)
        assert places.min() == 0 and places.max() == 1
    assert set(positions(configurations, parameters["loss"])) == {0.0, 0.5, 1.0}


def test_settings_are_loaded_with_the_trials(sweep_directory: Path) -> None:
    from analysis.curves import load_trials

    trials = load_trials(sweep_directory)
    assert "sampler.start_rate" in trials.columns
