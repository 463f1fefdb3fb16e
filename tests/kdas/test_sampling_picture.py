"""What docs/pictures/sampling.py records of a trial before it draws."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from kdas.clock import Calibration
from kdas.training.trial import Trial
from tests.places import ROOT

SCRIPT = ROOT / "docs" / "pictures" / "sampling.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("sampling_picture", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # The script's dataclass looks up its module in sys.modules while it is defined.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_recorded_epochs_hold_what_was_trained_on_and_recording_changes_nothing(
    script: ModuleType, trial_of: Callable[..., Trial], finished: Callable[..., tuple], calibration: Calibration
) -> None:
    sampler = {"name": "kdas", "sampling_period": 2}
    picks = script.record(trial_of(sampler=sampler, epochs=4), calibration)
    training, rows = finished(sampler=sampler, epochs=4)
    assert picks.is_trained.shape == picks.scores.shape == (4, 100) and picks.divergences.shape == (100,)
    assert picks.is_trained.sum() == rows[-1].samples_trained
    # Epochs 2 and 4 train on what 1 and 3 have chosen.
    np.testing.assert_array_equal(picks.is_trained[1::2], picks.is_trained[::2])
    assert (picks.is_trained[0] != picks.is_trained[2]).any()
    assert np.isfinite(picks.scores).all() and (picks.scores[0] != picks.scores[1]).any()
    np.testing.assert_array_equal(
        np.flatnonzero(picks.is_trained[3]), training.sampler.state_dict()["chosen"].sort()[0]
    )


def test_shares_are_those_of_tenths_from_the_lowest_value_up(script: ModuleType) -> None:
    values = np.arange(40.0)[::-1]
    shares = script.share_by_part(values >= 38, values)
    np.testing.assert_array_equal(shares, [0.0] * 9 + [0.5])
