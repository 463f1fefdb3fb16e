"""A training step never waits for the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kdas.clock import Calibration, Work
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
KDAS = {"name": "kdas", "sampling_period": [2]}

aten = torch.ops.aten
# Operations that read a value on the host, and operations whose output shape depends on the values.
_READING = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
    aten.unique_consecutive,
    aten._unique,
    aten._unique2,
    aten.bincount,
}


class Waits(TorchDispatchMode):
    """Counts the operations for which a program on a GPU would wait until the device has finished all queued work."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            each is not None and each.dtype is torch.bool for each in args[1]
        )
        self.count += by_mask or func.overloadpacket in _READING
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """A counter that also sees copies to the host, which are not operations if all tensors are there already."""
    counter, cpu = Waits(), Tensor.cpu

    def copied(tensor: Tensor) -> Tensor:
        counter.count += 1
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", copied)
    return counter


def test_all_ways_of_waiting_are_counted(waits: Waits) -> None:
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
    ]
    with waits:
        for number, way in enumerate(ways, start=1):
            way()
            assert waits.count == number
        values[torch.tensor([0, 2])] = 2 * values.sort().values[1]
    assert waits.count == len(ways)


@pytest.mark.parametrize("sampler", ["full", "random", KDAS], ids=["full", "random", "kdas"])
@pytest.mark.parametrize("changed", [{}, {"optimizer": {"learning_rate": 0.02, "clip_norm": 1.0}}], ids=["", "clipped"])
def test_waits_of_an_epoch_do_not_grow_with_its_batches(
    trial_of: TrialOf, calibration: Calibration, waits: Waits, sampler: object, changed: dict[str, Any]
) -> None:
    """On a GPU an `.item()`, a `nonzero` or a mask as an index stalls the program until the queue of work is empty.

    After such a stall nothing is queued while the device works, so each step takes as long as its launches. An epoch
    may wait a few times, to plan and to evaluate, but not once per batch.
    """
    counted, steps = [], []
    for batch_size in (32, 8):
        trial = trial_of(sampler=sampler, batch_size=batch_size, epochs=2, evaluations=1, **changed)
        list(Training(trial, Surroundings(calibration)).rows())  # fills the bank, which waits for the device
        training = Training(trial, Surroundings(calibration))
        waits.count = 0
        with waits:
            list(training.rows())
        assert training.clock.samples(Work.ASKED) == 0
        counted.append(waits.count)
        steps.append(training.step)
    assert steps[1] > 2.5 * steps[0] and steps[0] >= 4
    assert counted[0] == counted[1] < 15
