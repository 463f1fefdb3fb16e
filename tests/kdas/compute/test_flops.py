"""Our count of operations is that of torch's own counter."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from kdas.compute.flops import counted
from kdas.models import create

IMAGES = torch.ones(2, 3, 8, 8)
ROWS = torch.ones(2, 4, 6, requires_grad=True)


def _attention() -> object:
    functional.scaled_dot_product_attention(ROWS, ROWS, ROWS).sum().backward()
    return torch.einsum("bij,bkj->bik", ROWS, ROWS)


@pytest.mark.parametrize(
    "work",
    [
        lambda: create("resnet8", 10).eval()(IMAGES),
        lambda: create("ShuffleV2", 10)(torch.ones(2, 3, 32, 32)).sum().backward(),
        lambda: nn.MultiheadAttention(6, 2)(ROWS, ROWS, ROWS)[0].sum().backward(),
        _attention,
        lambda: torch.ones(3).sum(),
    ],
    ids=["forward", "backward", "layer of attention", "attention", "none"],
)
def test_operations_are_those_that_torch_counts(work: Callable[[], object]) -> None:
    with FlopCounterMode(display=False) as theirs:
        work()
    assert counted(work) == theirs.get_total_flops()
