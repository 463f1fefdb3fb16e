"""Distillation of features: their norm, and their direction towards the teacher's class means."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed


def norm_direction(student_features: Tensor, teacher_features: Tensor, class_directions: Tensor) -> Tensor:
    """The shortfall of the student's features along the direction of their class.

    1 - s.c / max(|s|, |t|): zero where the student points along its class's direction and is at least as long as the
    teacher's features.

    Args: student_features, teacher_features [B, D]; class_directions [B, D], unit length, of each sample's class.
    Returns: loss [B].
    Source: Wang et al., 2023 (arXiv 2305.17007); official code, where features longer than the teacher's are not
        punished either.
    """
    length = torch.maximum(student_features.norm(dim=1), teacher_features.detach().norm(dim=1))
    along = (student_features * class_directions).sum(dim=1)
    return 1 - along / length.clamp(min=torch.finfo(length.dtype).tiny)


@LOSSES.register(
    "nd",
    source="Wang et al., 2023 (arXiv 2305.17007)",
    needs=[LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES, LossNeed.CLASS_MEANS],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
class NormDirection(nn.Module):
    """Norm of the features and direction towards the teacher's class means; a learned projection if widths differ."""

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        same_width = context.student_width == context.teacher_width
        self.projection: nn.Module = (
            nn.Identity() if same_width else nn.Linear(context.student_width, context.teacher_width, bias=False)
        )
        directions = functional.normalize(context.class_means(), dim=1)
        # Not in checkpoints: it follows from the teacher and the data.
        self.register_buffer("class_directions", directions, persistent=False)
        self.class_directions: Tensor

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_features: Tensor,
        teacher_features: Tensor,
    ) -> Tensor:
        projected = self.projection(student_features)
        return norm_direction(projected, teacher_features, self.class_directions[targets].to(projected.dtype))
