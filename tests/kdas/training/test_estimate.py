"""The estimated cost of a trial against its real cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdas.clock import Calibration, Work
from kdas.samplers.scores import SCORES
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.trainer import Training
from kdas.training.trial import Inputs
from tests.kdas.conftest import NUM_TRAIN, ConfigOf

SAMPLERS = [
    "full",
    "random",
    "kdas",
    "infobatch",
    "top_loss",
    "kdas_random_choice",
    *({"name": "scored_subset", "score": name, "views": 2} for name in SCORES),
    {"name": "scored_subset", "score": "dual", "keep": "beta", "fraction": 0.3},
    "curriculum",
    {"name": "curriculum", "course": "easy_to_hard", "warmup_epochs": 1},
    {"name": "teacher_correct", "use": "weight"},
    "reference_gap",
    "proxy",
    {"name": "proxy", "rate": 0.3, "proxy_period": 1},
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_estimate_agrees_with_the_cost_of_a_trial(
    sampler: Any,
    sampler_part: Callable[[str], dict[str, Any]],
    config_of: ConfigOf,
    finished: Callable[..., tuple[Training, list[Any]]],
    calibration: Calibration,
) -> None:
    if isinstance(sampler, str):
        sampler = sampler_part(sampler)
    # Few enough epochs that no method reaches the budget, at which a trial ends.
    _, rows = finished(sampler=sampler, epochs=4)
    estimate = estimated_cost_ref_s(config_of(sampler=sampler, epochs=4), NUM_TRAIN, calibration)
    assert estimate == pytest.approx(rows[-1].cost_ref_s, rel=0.06)


def test_estimate_of_a_filter_by_the_teacher_counts_what_the_teacher_gets_right(
    config_of: ConfigOf,
    small_inputs: Inputs,
    finished: Callable[..., tuple[Training, list[Any]]],
    calibration: Calibration,
) -> None:
    training, rows = finished(sampler="teacher_correct", epochs=4)
    config = config_of(sampler="teacher_correct", epochs=4)
    share_right = small_inputs.teacher_share_right(config)
    assert 0 < share_right < 0.5
    assert share_right == pytest.approx(training.clock.samples(Work.STEP) / 400, abs=0.03)
    estimate = estimated_cost_ref_s(config, NUM_TRAIN, calibration, share_right)
    assert estimate == pytest.approx(rows[-1].cost_ref_s, rel=0.06)
    plain = estimated_cost_ref_s(config_of(sampler="full", epochs=4), NUM_TRAIN, calibration)
    assert estimated_cost_ref_s(config, NUM_TRAIN, calibration) == pytest.approx(plain)


def test_estimate_grows_with_the_set(config_of: ConfigOf, calibration: Calibration) -> None:
    config, earlier = config_of(sampler="kdas"), without_epochs(calibration)
    small, large = (estimated_cost_ref_s(config, n, earlier) for n in (16 * 24, 16 * 240))
    assert large == pytest.approx(10 * small)


def test_beginning_an_epoch_costs_by_the_samples_that_it_plans(config_of: ConfigOf, calibration: Calibration) -> None:
    config, earlier = config_of(sampler="full", epochs=4), without_epochs(calibration)
    line = ((60, 5e-3 + 60 * 4e-5), (4000, 5e-3 + 4000 * 4e-5))
    calibration = Calibration("with epochs", {}, {**earlier.prices, Work.EPOCH: line})
    for num_samples in (60, 16 * 240):
        begun_s = estimated_cost_ref_s(config, num_samples, calibration) - estimated_cost_ref_s(
            config, num_samples, earlier
        )
        assert begun_s == pytest.approx(4 * (5e-3 + num_samples * 4e-5), rel=1e-9)


def without_epochs(calibration: Calibration) -> Calibration:
    prices = {work: points for work, points in calibration.prices.items() if work is not Work.EPOCH}
    return Calibration("without epochs", {}, prices)
