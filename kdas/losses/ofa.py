"""OFA-KD: the teacher's information about the label is enhanced, for pairs of unlike architectures."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdas.losses.interface import LOSSES, Loss


def ofa(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """Cross-entropy against an enhanced teacher: -sum_c ((p_c + 1[c = y])^gamma - 1[c = y]) log q_c.

    With `gamma` 1 it is the cross-entropy between teacher and student. A larger one raises the weight of the label,
    the more the surer the teacher is of it, and lowers the weights of the other classes.

    Args: student_logits, teacher_logits [B, C], raw; targets [B].
    Returns: loss [B].
    Source: Hao et al., NeurIPS 2023; official code, the loss on logits.
    """
    is_label = torch.zeros_like(student_logits).scatter_(1, targets[:, None], 1.0)
    enhanced = (teacher_logits.detach().softmax(dim=1) + is_label) ** gamma - is_label
    return -(enhanced * student_logits.log_softmax(dim=1)).sum(dim=1)


@LOSSES.register("ofa", source="Hao et al., NeurIPS 2023 (OFA-KD)", usual={"ce_weight": 1.0, "kd_weight": 1.0})
def build_ofa(
    *,
    gamma: Annotated[
        float,
        Field(ge=1, le=100, description="Exponent of the enhancement; the paper uses 1 to 1.5, depending on the pair."),
    ] = 1.0,
) -> Loss:
    """Cross-entropy between teacher and student that enhances what the teacher says about the label."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return ofa(student_logits, teacher_logits, targets, gamma)

    return loss
