"""A stand-in for CUDA graphs on a CPU: it records operations, and a replay repeats them without any Python of ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.kdas.training.waits import Waits, waits_for_device

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Call:
    """An operation with its arguments, and the tensors that it made."""

    operation: Any
    arguments: Any
    named: Any
    made: list[tuple[int, Tensor]]

    def __call__(self) -> None:
        results = tree_leaves(self.operation(*self.arguments, **self.named))
        for place, tensor in self.made:
            tensor.copy_(results[place])


class _Tape(TorchDispatchMode):
    """Records operations while they run. Refuses what a graph could not contain."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self._made: dict[int, torch.UntypedStorage] = {}
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = kwargs or {}
        if waits_for_device(func, args):
            raise RuntimeError(f"{func} waits for the device")
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise RuntimeError(f"{func} draws")
        if func.overloadpacket is torch.ops.aten.lift_fresh:
            raise RuntimeError("a tensor of a number or list is a copy from the host")
        given = [each for each in tree_leaves((args, named)) if isinstance(each, Tensor)]
        self._keep(given)
        results = func(*args, **named)
        known = {each.untyped_storage()._cdata for each in given}
        made = [
            (place, each.detach())
            for place, each in enumerate(tree_leaves(results))
            if isinstance(each, Tensor) and each.untyped_storage()._cdata not in known
        ]
        self._made |= {each.untyped_storage()._cdata: each.untyped_storage() for _, each in made}
        # Detached, so that no tape holds a graph of autograd.
        kept_args, kept_named = tree_map_only(Tensor, Tensor.detach, (args, named))
        self.calls.append(_Call(func, kept_args, kept_named, made))
        return results

    def _keep(self, given: list[Tensor]) -> None:
        """Keep what storages hold that existed before. Batch norm's operation does not tell that it writes to some."""
        for storage in (each.untyped_storage() for each in given):
            if storage._cdata not in self._made and storage._cdata not in self._before:
                self._before[storage._cdata] = storage, storage.clone()

    def undo(self) -> None:
        """Nothing has happened on the device: restore what was written to, and leave no value in what was made."""
        for storage, before in self._before.values():
            storage.copy_(before)
        for call in self.calls:
            for _, tensor in call.made:
                if tensor.is_floating_point():
                    tensor.fill_(torch.nan)


class Tape:
    """`DeviceGraphs` on a CPU."""

    def __init__(self) -> None:
        self.num_recorded = self.num_replayed = self.num_aside = 0

    def run_aside(self, work: Callable[[], Result]) -> tuple[Result, bool]:
        self.num_aside += 1
        with Waits() as waits:
            result = work()
        return result, waits.count > 0

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        tape = _Tape()
        try:
            with tape:
                result = work()
        finally:
            with torch._C._AutoDispatchBelowAutograd():
                tape.undo()
        self.num_recorded += 1

        def replay() -> None:
            self.num_replayed += 1
            with torch._C._AutoDispatchBelowAutograd():
                for call in tape.calls:
                    call()

        return result, replay

    def forget(self) -> None:
        pass
