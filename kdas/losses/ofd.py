"""Overhaul of feature distillation: maps before the activation, compared only where it would make a difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed
from kdas.losses.maps import check_num_maps, summed

# Of the authors' code: below this share of negative values, the margin is three deviations instead of their mean.
RARELY_NEGATIVE = 0.001


def ofd(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor], margins: Sequence[Tensor | float]) -> Tensor:
    """Partial squared difference, summed over channels and positions; map j of n counts 2^-(n - 1 - j).

    The target is the teacher's value, but at least the margin. Where it is not positive, only a student that is above
    it pays. The teacher's map is average-pooled to the student's size.

    Args: student_maps [B, C, H, W], before the activation and with the teacher's number of channels; teacher_maps
        [B, C, ...], before it too; margins: negative, of each map, a number or a tensor of C.
    Returns: loss [B].
    Source: Heo et al., ICCV 2019, and their code.
    """
    stages = []
    for number, (student_map, teacher_map, margin) in enumerate(zip(student_maps, teacher_maps, margins, strict=True)):
        teacher_map = functional.adaptive_avg_pool2d(teacher_map.detach(), (student_map.shape[2], student_map.shape[3]))
        margin = torch.as_tensor(margin).to(student_map)
        target = torch.maximum(teacher_map, margin.view(-1, 1, 1) if margin.ndim else margin)
        counts = (teacher_map > 0) | (student_map > target)
        difference = (student_map - target).square() * counts
        stages.append(difference.sum(dim=(1, 2, 3)) / 2 ** (len(student_maps) - 1 - number))
    return summed(stages)


def margins_of(weight: Tensor, bias: Tensor) -> Tensor:
    """The mean negative value of each channel after a batch norm, if its inputs are Gaussian.

    Args: weight, bias [C], of the batch norm: standard deviation, up to its sign, and mean of its outputs.
    Returns: margins [C], at most 0, in float32.
    Source: Heo et al., ICCV 2019, equation 6; three deviations below 0 where hardly any value is negative.
    """
    mean, deviation = bias.double(), weight.double().abs().clamp(min=torch.finfo(torch.float32).tiny)
    ratio = mean / deviation
    negative_share = torch.special.ndtr(-ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    mean_negative = mean - deviation * density / negative_share
    return torch.where(negative_share > RARELY_NEGATIVE, mean_negative, -3 * deviation).float()


def connector(channels: int, teacher_channels: int) -> nn.Sequential:
    """A 1x1 convolution with batch norm. Args: channels of the student's and of the teacher's map."""
    convolution = nn.Conv2d(channels, teacher_channels, kernel_size=1, bias=False)
    nn.init.normal_(convolution.weight, std=math.sqrt(2 / teacher_channels))
    return nn.Sequential(convolution, nn.BatchNorm2d(teacher_channels))


@LOSSES.register(
    "ofd",
    source="Heo et al., ICCV 2019",
    needs=[LossNeed.STUDENT_PREACT_MAPS, LossNeed.TEACHER_PREACT_MAPS, LossNeed.TEACHER_BATCH_NORMS],
    usual={"ce_weight": 1.0, "kd_weight": 0.001},
)
class Overhaul(nn.Module):
    """Partial squared difference of maps before the activation, for all stages, after learned connectors."""

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        check_num_maps(context, "ofd", 2)
        stages = list(zip(context.student_preact_maps[:0:-1], context.teacher_preact_maps[:0:-1], strict=False))[::-1]
        self.connectors = nn.ModuleList(connector(student[0], teacher[0]) for student, teacher in stages)
        for number, batch_norm in enumerate(context.teacher_batch_norms[-len(stages) :]):
            # Not in checkpoints: they follow from the teacher.
            self.register_buffer(f"margin{number}", margins_of(*batch_norm), persistent=False)

    @property
    def margins(self) -> list[Tensor]:
        return [getattr(self, f"margin{number}") for number in range(len(self.connectors))]

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_preact_maps: list[Tensor],
        teacher_preact_maps: list[Tensor],
    ) -> Tensor:
        # Of models with different numbers of stages, the last ones are compared.
        last = slice(-len(self.connectors), None)
        pairs = zip(self.connectors, student_preact_maps[last], strict=True)
        connected = [connect(student_map) for connect, student_map in pairs]
        return ofd(connected, teacher_preact_maps[last], self.margins)
