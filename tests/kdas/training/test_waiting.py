"""A training step never waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdas.clock import Calibration, Work
from kdas.losses import LOSSES
from kdas.samplers import SAMPLERS
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial
from tests.kdas.training.waits import Waits

TrialOf = Callable[..., Trial]
KDAS = {"name": "kdas", "sampling_period": [2]}


def test_all_ways_of_waiting_are_counted() -> None:
    waits = Waits()
    values = torch.tensor([3.0, 1.0, 3.0])
    ways: list[Callable[[], object]] = [
        lambda: float(values[0]),
        lambda: bool(values[0] > 1),
        lambda: values[values > 1],
        lambda: values.nonzero(),
        lambda: values.unique(),
        lambda: values.masked_select(values > 1),
        lambda: torch.equal(values, values),
        lambda: torch.where(values > 1),
        lambda: values.cpu(),
        lambda: values.tolist(),
        lambda: torch.linalg.svdvals(values[None]),
    ]
    with waits:
        for number, way in enumerate(ways, start=1):
            way()
            assert waits.count == number
        values[torch.tensor([0, 2])] = 2 * values.sort().values[1]
    assert waits.count == len(ways)


# These choose, or compute, what depends on values: how many are chosen, when an iteration has converged, which
# augmentations are drawn.
WAITING_SAMPLERS = {"selective_backprop", "teacher_correct"}
WAITING_LOSSES = {"kdsvd", "mlkd"}
QUICK: list[dict[str, Any]] = [
    {},
    {"sampler": "random"},
    {"sampler": KDAS},
    {"optimizer": {"learning_rate": 0.02, "clip_norm": 1.0}, "ema_decay": 0.9, "sampler": KDAS},
]
OTHERS: list[dict[str, Any]] = [
    *({"sampler": name} for name in SAMPLERS.names() if name not in WAITING_SAMPLERS),
    *({"loss": name} for name in LOSSES.names() if name not in WAITING_LOSSES),
]


@pytest.mark.parametrize("changed", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)], ids=str)
def test_waits_of_an_epoch_do_not_grow_with_its_batches(
    trial_of: TrialOf,
    calibration: Calibration,
    sampler_part: Callable[[str], dict[str, Any]],
    changed: dict[str, Any],
) -> None:
    """On a GPU an `.item()`, a `nonzero` or a mask as an index stalls the program until the queue of work is empty.

    After such a stall nothing is queued while the device works, so each step takes as long as its launches. An epoch
    may wait a few times, to plan and to evaluate, but not once per batch.
    """
    if isinstance(changed.get("sampler"), str):
        changed = {**changed, "sampler": sampler_part(changed["sampler"])}
    counted, steps = [], []
    for batch_size in (32, 8):
        trial = trial_of(batch_size=batch_size, epochs=2, evaluations=1, **changed)
        list(Training(trial, Surroundings(calibration)).rows())  # fills the bank, which waits for the device
        training = Training(trial, Surroundings(calibration))
        with Waits() as waits:
            list(training.rows())
        assert training.clock.samples(Work.ASKED) == 0 or "loss" in changed
        counted.append(waits.count)
        steps.append(training.step)
    assert steps[1] >= 2.5 * steps[0] and steps[0] >= 4
    assert counted[0] == counted[1] < 30
