"""The estimated cost of a trial against its real cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kdas.clock import Calibration
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.trainer import Training
from tests.kdas.conftest import NUM_TRAIN, ConfigOf


@pytest.mark.parametrize("sampler", ["full", "random", "kdas", "infobatch", "top_loss", "kdas_random_choice"])
def test_estimate_agrees_with_the_cost_of_a_trial(
    sampler: str,
    config_of: ConfigOf,
    finished: Callable[..., tuple[Training, list[Any]]],
    calibration: Calibration,
) -> None:
    # Few enough epochs that no method reaches the budget, at which a trial ends.
    _, rows = finished(sampler=sampler, epochs=4)
    estimate = estimated_cost_ref_s(config_of(sampler=sampler, epochs=4), NUM_TRAIN, calibration)
    assert estimate == pytest.approx(rows[-1].cost_ref_s, rel=0.06)


def test_estimate_grows_with_the_set(config_of: ConfigOf, calibration: Calibration) -> None:
    small, large = (estimated_cost_ref_s(config_of(sampler="kdas"), n, calibration) for n in (16 * 24, 16 * 240))
    assert large == pytest.approx(10 * small)
