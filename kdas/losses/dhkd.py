"""Dual-head distillation: a head of its own matches the teacher's logits, so the student's head learns labels only."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed

# The official code keeps its probabilities at least this far from 0 and 1.
PROBABILITY_EPS = 1e-8
WIDEST_GAP = math.log((1 - PROBABILITY_EPS) / PROBABILITY_EPS)


def dhkd(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 sum_c KL(1/2 || sigmoid((s_c - t_c) / T)): zero where the logits are the teacher's, offset included.

    Args: student_logits [B, C], of the auxiliary head; teacher_logits [B, C], raw.
    Returns: loss [B].
    Source: Yang et al., 2024 (arXiv 2411.08937), its BinaryKL-Norm; official code.
    """
    gap = ((student_logits - teacher_logits.detach()) / temperature).clamp(-WIDEST_GAP, WIDEST_GAP)
    # -log sigmoid(x) is softplus(-x), and 1 - sigmoid(x) is sigmoid(-x).
    divergence = (functional.softplus(gap) + functional.softplus(-gap)) / 2 - math.log(2)
    return temperature**2 * divergence.sum(dim=1)


@LOSSES.register(
    "dhkd",
    source="Yang et al., 2024 (arXiv 2411.08937)",
    needs=[LossNeed.STUDENT_FEATURES],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
class DualHead(nn.Module):
    """Binary divergence of an auxiliary linear head on the student's features from the teacher's logits."""

    def __init__(
        self,
        context: LossContext,
        *,
        temperature: Annotated[
            float, Field(gt=0, le=1000, description="Softens the difference of the logits; the paper uses 2.")
        ] = 2.0,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.head = nn.Linear(context.student_width, context.num_classes)

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, student_features: Tensor
    ) -> Tensor:
        return dhkd(self.head(student_features), teacher_logits, self.temperature)
