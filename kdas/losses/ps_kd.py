"""PS-KD: the label gives way to a teacher's prediction, more and more so over the epochs."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed


def progressive_targets(teacher_logits: Tensor, targets: Tensor, share: float) -> Tensor:
    """Probabilities [B, C]: the label, of which the teacher's prediction takes a share in [0, 1].

    Args: teacher_logits [B, C], raw; targets [B].
    """
    labels = torch.zeros_like(teacher_logits).scatter_(1, targets[:, None], 1.0)
    return torch.lerp(labels, teacher_logits.detach().softmax(dim=1), share)


@LOSSES.register(
    "ps_kd",
    source="Kim et al., ICCV 2021 (PS-KD)",
    needs=[LossNeed.EPOCH],
    usual={"ce_weight": 0.0, "kd_weight": 1.0},
)
def build_ps_kd(
    context: LossContext,
    *,
    final_share: Annotated[
        float, Field(ge=0, le=1, description="The teacher's share of the target in the last epoch; the paper uses 0.8.")
    ] = 0.8,
) -> Loss:
    """Cross-entropy on a mixture of label and teacher, whose share of the teacher grows with the epochs."""
    epochs = context.epochs

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, epoch: int) -> Tensor:
        mixed = progressive_targets(teacher_logits, targets, final_share * epoch / epochs)
        return -(mixed * student_logits.log_softmax(dim=1)).sum(dim=1)

    return loss  # type: ignore[return-value]
