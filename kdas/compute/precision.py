"""Precision of the models: float32, or autocast to a shorter float with the loss scaling that float16 needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """Autocast of the forward pass, and the matching update. Weights and losses stay in float32."""

    def __init__(self, name: str, device: str) -> None:
        self.dtype, self.device = _DTYPES[name], device
        # float16 gradients underflow unless the loss is scaled up first.
        self.scaler = torch.amp.GradScaler(device, enabled=name == "float16")

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, dtype=self.dtype, enabled=self.dtype != torch.float32)

    def backward(self, loss: Tensor, *, retain_graph: bool = False) -> None:
        self.scaler.scale(loss).backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer, trained: Iterable[Tensor], clip_norm: float | None) -> None:
        """Update. With float16, a step whose gradients overflowed is skipped and the scale lowered."""
        if clip_norm is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self.scaler.load_state_dict(state)
