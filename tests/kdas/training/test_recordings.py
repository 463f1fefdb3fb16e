"""When a function is recorded, what a replay repeats, and what ends a recording."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdas.training.batch import Answer, Batch, StepInputs, Views
from kdas.training.recorded import Recordings
from tests.kdas.training.tape import Tape


@pytest.fixture
def tape() -> Tape:
    return Tape()


class Counting:
    """Adds images up in a state, in place, times a number; counts its calls."""

    def __init__(self) -> None:
        self.sum, self.factor, self.num_calls = torch.zeros(()), 1.0, 0

    def __call__(self, views: Views) -> Views:
        self.num_calls += 1
        self.sum += self.factor * views.images.sum()
        return Views(self.sum * torch.ones(2), views.strong_images)


def images(value: float, size: int = 3) -> Views:
    return Views(torch.full((size,), value))


def test_after_three_warm_ups_a_shape_is_recorded_at_its_second_use_in_an_epoch(tape: Tape) -> None:
    recordings, function = Recordings(tape), Counting()
    seen = []
    for _ in range(2):
        for _ in range(6):
            recordings.run("it", function, images(1.0))
            seen.append((tape.num_aside, function.num_calls, tape.num_replayed))
        recordings.forget()
    first, second = seen[:6], seen[6:]
    assert first == [(1, 1, 0), (2, 2, 0), (3, 3, 0), (3, 4, 1), (3, 4, 2), (3, 4, 3)]
    assert second == [(3, 5, 3), (3, 6, 4), (3, 6, 5), (3, 6, 6), (3, 6, 7), (3, 6, 8)]
    assert function.sum == 36.0


def test_a_shape_that_comes_once_an_epoch_is_never_recorded(tape: Tape) -> None:
    recordings, function = Recordings(tape), Counting()
    for _ in range(6):
        recordings.run("it", function, images(1.0, size=2))
        recordings.forget()
    assert (tape.num_aside, tape.num_recorded, function.num_calls) == (3, 0, 6)


def test_replays_read_their_inputs_and_what_they_return_stays(tape: Tape) -> None:
    recordings, function = Recordings(tape), Counting()
    returned = [recordings.run("it", function, images(float(number))) for number in range(8)]
    assert [float(each.images[0]) for each in returned] == [0.0, 3.0, 9.0, 18.0, 30.0, 45.0, 63.0, 84.0]
    assert tape.num_replayed == 5


def test_numbers_are_part_of_a_recording_until_it_is_forgotten(tape: Tape) -> None:
    recordings, function = Recordings(tape), Counting()
    for _ in range(5):
        recordings.run("it", function, images(1.0))
    function.factor = 100.0
    assert recordings.run("it", function, images(1.0)).images[0] == 18.0
    recordings.forget()
    assert recordings.run("it", function, images(1.0)).images[0] == 318.0


@pytest.mark.parametrize(
    "other",
    [
        Views(torch.ones(4)),
        Views(torch.ones(3, dtype=torch.float64)),
        Views(torch.ones(6)[::2]),
        Views(torch.ones(3), torch.ones(3)),
    ],
    ids=["shape", "dtype", "layout", "one more"],
)
def test_inputs_of_another_kind_are_recorded_apart(tape: Tape, other: Views) -> None:
    recordings, function = Recordings(tape), Counting()
    for _ in range(5):
        recordings.run("it", function, images(1.0))
        recordings.run("it", function, other)
    assert tape.num_recorded == 2
    assert recordings.run("other name", function, other) and tape.num_aside == 7


def test_nothing_is_recorded_without_graphs() -> None:
    recordings, function = Recordings(None), Counting()
    for _ in range(6):
        recordings.run("it", function, images(1.0))
    assert function.num_calls == 6


@pytest.mark.parametrize(("num_waits", "num_recorded"), [(2, 1), (3, 0)])
def test_waits_in_the_first_uses_are_forgiven_and_in_the_last_warm_up_not(
    tape: Tape, num_waits: int, num_recorded: int
) -> None:
    calls: list[float] = []

    def waiting(views: Views) -> Views:
        calls.append(float(views.images[0]) if len(calls) < num_waits else 0.0)
        return views

    recordings = Recordings(tape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(6):
            recordings.run("it", waiting, images(1.0))
    told = "cuda_graphs: it is not recorded, and runs as without the key: it waits for the device."
    expected = [] if num_recorded else [told]
    assert tape.num_recorded == num_recorded and [str(each.message) for each in caught] == expected


WAYS: list[Callable[[Tensor], object]] = [
    lambda values: values.sum().item(),
    lambda values: bool(values.any()),
    lambda values: values[values > 0],
    lambda values: torch.tensor(2.0) * values,
    lambda values: torch.rand(3),
]


@pytest.mark.parametrize("way", WAYS, ids=["item", "bool", "mask", "from the host", "draw"])
def test_what_a_graph_cannot_contain_fails_and_leaves_no_trace(tape: Tape, way: Callable[[Tensor], object]) -> None:
    state = torch.ones(3)

    def work() -> None:
        state.add_(1)
        way(state)

    with pytest.raises(RuntimeError, match=r"waits for the device|a copy from the host|draws"):
        tape.record(work)
    assert state.tolist() == [1.0, 1.0, 1.0]


def test_each_changes_every_tensor_of_a_step_and_keeps_which_are_one() -> None:
    shared = torch.ones(2, 1)
    batch = Batch(torch.ones(2), torch.ones(2), torch.ones(2), Answer(shared, maps=(shared, torch.ones(2))))
    inputs = StepInputs(batch, None, torch.ones(2)).each(lambda tensor: 2 * tensor)
    answer = inputs.batch.answer
    assert answer is not None and answer.logits is answer.maps[0] and inputs.weights is None
    changed = [inputs.batch.images, inputs.batch.targets, inputs.batch.indices, *answer.maps, inputs.loss_weights]
    assert all(each is not None and (each == 2).all() for each in changed)
