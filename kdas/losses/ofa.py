"""OFA-KD: the teacher's information about the label is enhanced, for pairs of unlike architectures."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed

Gamma = Annotated[
    float,
    Field(ge=1, le=100, description="Exponent of the enhancement; the paper uses 1 to 1.5, depending on the pair."),
]


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
def build_ofa(*, gamma: Gamma = 1.0) -> Loss:
    """Cross-entropy between teacher and student that enhances what the teacher says about the label."""

    def loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return ofa(student_logits, teacher_logits, targets, gamma)

    return loss


@LOSSES.register(
    "ofa_stages",
    source="Hao et al., NeurIPS 2023 (OFA-KD), for a convolutional student",
    needs=[LossNeed.STUDENT_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
class StageBranches(nn.Module):
    """The loss `ofa` on the student's logits and on those of a branch at the end of each of its stages."""

    def __init__(self, context: LossContext, *, gamma: Gamma = 1.0) -> None:
        super().__init__()
        self.gamma = gamma
        width = max(context.student_width, context.teacher_width)
        stages = context.student_maps[1:]
        self.branches = nn.ModuleList(
            _branch(channels, len(stages) - number, width, context.num_classes)
            for number, (channels, _, _) in enumerate(stages, start=1)
        )

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, *, student_maps: list[Tensor]
    ) -> Tensor:
        logits = [student_logits, *map(_called, self.branches, student_maps[1:])]
        return torch.stack([ofa(each, teacher_logits, targets, self.gamma) for each in logits]).sum(dim=0)


def _called(module: nn.Module, tensor: Tensor) -> Tensor:
    result: Tensor = module(tensor)
    return result


def _branch(channels: int, num_halvings: int, width: int, num_classes: int) -> nn.Sequential:
    """From a stage's map to logits: as many halvings as there are later stages, then a head on the pooled map.

    Each halving doubles the channels, as a stage does in many networks, and the last one gives `width` channels.
    """
    widths = [channels * 2**number for number in range(num_halvings)] + [width]
    body: list[nn.Module] = [_halving(before, after) for before, after in pairwise(widths)]
    if not body:
        body = [nn.Conv2d(channels, width, kernel_size=1)]
    branch = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes))
    for module in branch.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return branch


def _halving(channels: int, width: int) -> nn.Sequential:
    """Two depthwise separable 3x3 convolutions, the first with stride 2."""
    return nn.Sequential(*_separable(channels, channels, stride=2), *_separable(channels, width, stride=1))


def _separable(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, channels, kernel_size=3, stride=stride, padding=1, groups=channels, bias=False),
        nn.Conv2d(channels, width, kernel_size=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]
