"""Finds, on a CPU, where a program on a GPU would wait until the device has finished all queued work."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

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
    # The documentation of torch.linalg says so.
    aten._linalg_svd,
    aten._linalg_eigh,
    aten.linalg_eig,
}
# Copies to the host, which are not operations if all tensors are there already.
_COPYING = {Tensor.cpu, Tensor.tolist, Tensor.numpy, Tensor.__array__}


def waits_for_device(operation: Any, arguments: Any) -> bool:
    """Whether an operation of the dispatcher with these arguments would wait."""
    packet = operation.overloadpacket
    by_mask = packet in (aten.index, aten.index_put, aten.index_put_) and any(
        each is not None and each.dtype is torch.bool for each in arguments[1]
    )
    return by_mask or packet in _READING


class Waits(TorchDispatchMode):
    """Counts the waits inside the block."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self._copies = _Copies(self)

    def __enter__(self) -> Self:
        self._copies.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._copies.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += waits_for_device(func, args)
        return func(*args, **(kwargs or {}))


class _Copies(TorchFunctionMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._waits.count += func in _COPYING
        return func(*args, **(kwargs or {}))
