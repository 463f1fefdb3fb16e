"""Records the kernels of a function and replays them: on a GPU, launching each takes longer than a small one runs.

A replay repeats kernels on the memory that they had when they were recorded, and runs no Python. So inputs are copied
to where a recording reads them, outputs are copied from where it writes them, and every number that Python computed,
such as the learning rate, is part of the recording.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

# Libraries and optimizers set themselves up in the first uses of a shape, which a recording must not contain. PyTorch's
# `make_graphed_callables` takes as many.
WARM_UP_USES = 3

Result = TypeVar("Result")


class Tensors(Protocol):
    """Something made of tensors, such as a batch."""

    def each(self, change: Callable[[Tensor], Tensor], /) -> Self:
        """The same with every tensor changed, always in the same order."""
        ...


Inputs = TypeVar("Inputs", bound=Tensors)
Outputs = TypeVar("Outputs", bound=Tensors)


class DeviceGraphs(Protocol):
    """How a kind of device records kernels."""

    def run_aside(self, work: Callable[[], Result]) -> tuple[Result, bool]:
        """Do some work as a recording would. Returns: its result, and whether the host waited for the device."""
        ...

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        """Record some work without doing it.

        Returns: its result, which has values after a replay; and what replays it.
        Raises: RuntimeError: if it cannot be recorded; then nothing has changed on the device.
        """
        ...

    def forget(self) -> None:
        """No recording will be replayed any more; they are deleted afterwards."""
        ...


class CudaGraphs:
    """CUDA graphs, recorded as PyTorch's documentation asks of a whole network."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def run_aside(self, work: Callable[[], Result]) -> tuple[Result, bool]:
        """On the stream that records, because libraries keep a workspace for each stream."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), _noted_waits() as waits:
            result = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result, bool(waits)

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        # All recordings share memory: none needs what another has left there.
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may allocate meanwhile, for example to fetch the next images.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                result = work()
        except RuntimeError:
            self._pool = None  # to PyTorch it may still be in use
            raise
        return result, graph.replay

    def forget(self) -> None:
        torch.cuda.synchronize()  # the last replays may still run
        # PyTorch does not take a pool again whose graphs are all gone.
        self._pool = None


@contextmanager
def _noted_waits() -> Iterator[list[str]]:
    """Notes in the list, until the block ends, each time that PyTorch makes the host wait for the device."""
    waits: list[str] = []
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield waits
        finally:
            torch.cuda.set_sync_debug_mode(before)
    for each in caught:
        told = str(each.message)
        if "called a synchronizing" in told:
            waits.append(told)
        elif "Synchronization debug mode" not in told:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


@dataclass(frozen=True)
class _Recording(Generic[Outputs]):
    """Tensors that are read, tensors that are written, and what does it."""

    inputs: Sequence[Tensor]
    outputs: Outputs
    replay: Callable[[], None]

    def __call__(self, inputs: Tensors) -> Outputs:
        for kept, given in zip(self.inputs, _tensors(inputs), strict=True):
            kept.copy_(given)
        self.replay()
        # The next replay writes to the same place, and a sampler may keep losses.
        return self.outputs.each(torch.clone)


class Recordings:
    """Runs the functions of a trial, and replays those that come again in an epoch.

    A function is recorded for each kind of input: shapes, layouts, and which tensors there are. An epoch's odd last
    batch comes once, so a recording is made at the second use. A function that waits for the device, or fails while it
    is recorded, runs as it is to the trial's end.

    Args: graphs: None if nothing is recorded.
    """

    def __init__(self, graphs: DeviceGraphs | None) -> None:
        self._graphs = graphs
        self._recorded: dict[Hashable, _Recording[Any]] = {}
        self._used: set[Hashable] = set()
        # In the whole trial.
        self._num_uses: Counter[Hashable] = Counter()
        self._unrecorded: set[str] = set()

    def run(self, name: str, function: Callable[[Inputs], Outputs], inputs: Inputs) -> Outputs:
        """What the function returns for these inputs.

        Args: name: of the function, for the user, one for each; function: of the values of its inputs, and of nothing
            else that changes before the next `forget`; it changes tensors only in place.
        """
        if self._graphs is None or name in self._unrecorded:
            return function(inputs)
        key = (name, _kind(inputs))
        if key in self._recorded:
            replayed: Outputs = self._recorded[key](inputs)
            return replayed
        is_repeated = key in self._used
        self._used.add(key)
        self._num_uses[key] += 1
        if self._num_uses[key] <= WARM_UP_USES:
            return self._warm_up(self._graphs, name, function, inputs, is_last=self._num_uses[key] == WARM_UP_USES)
        return self._record(self._graphs, key, function, inputs) if is_repeated else function(inputs)

    def forget(self) -> None:
        """Before anything that recordings contain changes: a number, or which tensors hold the state."""
        if self._graphs is not None:
            self._graphs.forget()
            self._recorded.clear()
            self._used.clear()

    def _warm_up(
        self,
        graphs: DeviceGraphs,
        name: str,
        function: Callable[[Inputs], Outputs],
        inputs: Inputs,
        *,
        is_last: bool,
    ) -> Outputs:
        outputs, has_waited = graphs.run_aside(lambda: function(inputs))
        if has_waited and is_last:  # before, what is set up once may wait
            self._leave_unrecorded(name, "it waits for the device")
        return outputs

    def _record(
        self, graphs: DeviceGraphs, key: tuple[str, Hashable], function: Callable[[Inputs], Outputs], inputs: Inputs
    ) -> Outputs:
        kept = inputs.each(torch.clone)
        try:
            outputs, replay = graphs.record(lambda: function(kept))
        except RuntimeError as error:
            self._leave_unrecorded(key[0], str(error).partition("\n")[0])
            return function(inputs)
        recording = _Recording(_tensors(kept), outputs, replay)
        self._recorded[key] = recording
        return recording(inputs)

    def _leave_unrecorded(self, name: str, reason: str) -> None:
        self._unrecorded.add(name)
        warnings.warn(f"cuda_graphs: {name} is not recorded, and runs as without the key: {reason}.", stacklevel=4)


def _tensors(inputs: Tensors) -> list[Tensor]:
    found: list[Tensor] = []

    def noted(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    inputs.each(noted)
    return found


def _kind(inputs: Any) -> Hashable:
    """The same inputs with what matters to a recording in place of each tensor."""
    numbers = itertools.count()

    def described(tensor: Tensor) -> Any:
        # The number tells inputs in which one tensor has two places from those in which it does not.
        return next(numbers), tensor.shape, tensor.stride(), tensor.dtype

    kind: Hashable = inputs.each(described)
    return kind
