"""CTKD: a learned temperature makes distillation harder, more and more so over the first epochs."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kdas.losses.divergence import kd
from kdas.losses.interface import LOSSES, LossNeed


def reversal_strength(epoch: int, curriculum_epochs: int) -> float:
    """Strength of the gradient reversal: a half cosine from 0 to 1, and 1 after the curriculum.

    Args: epoch, counted from 1; curriculum_epochs: the epoch from which on it is 1.
    Returns: a value in [0, 1].
    Source: Li et al., AAAI 2023; official code, `CosineDecay`.
    """
    progress = min(epoch, curriculum_epochs) / curriculum_epochs
    return (1 - math.cos(math.pi * progress)) / 2


@LOSSES.register(
    "ctkd",
    source="Li et al., AAAI 2023 (CTKD), with the global temperature",
    needs=[LossNeed.EPOCH],
    usual={"ce_weight": 0.1, "kd_weight": 0.9},
)
class CurriculumTemperature(nn.Module):
    """Divergence of the softened predictions, at a temperature that is trained to raise it."""

    def __init__(
        self,
        *,
        lowest: Annotated[
            float, Field(gt=0, le=1000, description="Lower end of the temperature; the paper uses 1.")
        ] = 1.0,
        span: Annotated[
            float, Field(ge=0, le=1000, description="Width of the temperature's range; the paper uses 20.")
        ] = 20.0,
        curriculum_epochs: Annotated[
            int,
            Field(
                ge=1,
                le=1_000_000,
                description="Epochs over which the temperature's gradient grows to its full size; the paper uses 10.",
            ),
        ] = 10,
    ) -> None:
        super().__init__()
        self.lowest, self.span, self.curriculum_epochs = lowest, span, curriculum_epochs
        # The temperature is lowest + span * sigmoid(this). The official code starts at 1 too.
        self.position = nn.Parameter(torch.ones(1))

    def temperature(self, epoch: int) -> Tensor:
        """The temperature [1] behind a gradient reversal layer: steps raise the loss where they move it."""
        fixed = self.position.detach()
        # The value of the position, with a gradient of -strength.
        reversed_position = fixed - reversal_strength(epoch, self.curriculum_epochs) * (self.position - fixed)
        return self.lowest + self.span * reversed_position.sigmoid()

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, epoch: int) -> Tensor:
        return kd(student_logits, teacher_logits, self.temperature(epoch))
