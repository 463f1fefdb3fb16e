"""Floating point operations of a piece of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up torch's formulas, as torch's `FlopCounterMode` does. That one loads torch's compiler, in two seconds."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # torch would have its compiler leave this class alone, and load it for that.
        return False

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        formula = flop_registry.get(operation._overloadpacket)
        if formula is None:
            with self:
                parts = operation.decompose(*args, **named)
            if parts is not NotImplemented:
                return parts
        result = operation(*args, **named)
        if formula is not None:
            self.total += formula(*args, **named, out_val=result)
        return result


def counted(work: Callable[[], object]) -> float:
    """Do the work, and return its number of floating point operations, as torch counts them."""
    with _Counter() as counter:
        work()
    return float(counter.total)
