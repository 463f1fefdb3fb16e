"""The seam of a distillation loss."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from kdas.registry import Registry


class Loss(Protocol):
    """Per-sample distillation loss."""

    def __call__(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        """Args: student_logits [B, C]; teacher_logits [B, C]; targets [B]. Returns: loss [B], unreduced."""
        ...


LOSSES: Registry[Loss] = Registry("loss")
