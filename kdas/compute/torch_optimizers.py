"""torch's optimizers without the wrappers that are for its compiler.

These wrappers load the compiler, with sympy and much more, once a process makes its first optimizer: 1.8 seconds and 75
MB. We compile models, never updates, and so need none of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _bare(method: Callable[..., Any]) -> Any:
    """The function that a wrapper was put around; if there is none, the method itself."""
    return getattr(method, "__wrapped__", method)


class Optimizer(torch.optim.Optimizer):
    """The base of all optimizers, as torch's. A subclass has a `step` of its own."""

    add_param_group = _bare(torch.optim.Optimizer.add_param_group)
    zero_grad = _bare(torch.optim.Optimizer.zero_grad)
    state_dict = _bare(torch.optim.Optimizer.state_dict)
    load_state_dict = _bare(torch.optim.Optimizer.load_state_dict)


class SGD(Optimizer, torch.optim.SGD):
    """As torch's."""

    step = torch.no_grad()(_bare(torch.optim.SGD.step))


class AdamW(Optimizer, torch.optim.AdamW):
    """As torch's."""

    step = torch.no_grad()(_bare(torch.optim.AdamW.step))


class Muon(Optimizer, torch.optim.Muon):
    """As torch's."""

    step = torch.no_grad()(_bare(torch.optim.Muon.step))
