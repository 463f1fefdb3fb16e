"""Floating point operations of a piece of work."""

from __future__ import annotations

from collections.abc import Callable


def counted(work: Callable[[], object]) -> float:
    """Do the work, and return its number of floating point operations, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
