"""Variational information distillation: the student's map predicts the teacher's, with a variance of each channel."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed
from kdas.losses.maps import at_smaller_size, check_num_maps, summed
from kdas.parts.registry import LATER

# Of the authors' code: the variance at the start, and its lower bound.
INITIAL_VARIANCE, EPS = 5.0, 1e-5


def negative_log_likelihood(mean: Tensor, teacher_map: Tensor, raw_variance: Tensor) -> Tensor:
    """Of the teacher's map under a Gaussian, without the constant; mean over channels and positions.

    Args: mean, teacher_map [B, C, H, W]; raw_variance [C]: softplus makes it the variance of each channel.
    Returns: loss [B].
    Source: Ahn et al., CVPR 2019, equation 6.
    """
    variance = (functional.softplus(raw_variance) + EPS).view(-1, 1, 1)
    return ((mean - teacher_map).square() / variance + variance.log()).mean(dim=(1, 2, 3)) / 2


def predictor(channels: int, teacher_channels: int) -> nn.Sequential:
    """Three 1x1 convolutions without bias, with ReLU between them, from maps of `channels` to `teacher_channels`."""
    widths = [(channels, teacher_channels), (teacher_channels, teacher_channels), (teacher_channels, teacher_channels)]
    first, *others = [nn.Conv2d(*width, kernel_size=1, bias=False) for width in widths]
    return nn.Sequential(first, *(module for each in others for module in (nn.ReLU(), each)))


@LOSSES.register(
    "vid",
    source="Ahn et al., CVPR 2019",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
class VariationalInformation(nn.Module):
    """Likelihood of the teacher's maps given the student's, for all stages; the variances are learned too."""

    def __init__(
        self,
        context: LossContext,
        *,
        learned_variances: Annotated[
            bool, Field(description="Whether the variances are trained, which the official code forgets to do."), LATER
        ] = True,
    ) -> None:
        super().__init__()
        check_num_maps(context, "vid", 2)
        stages = list(zip(context.student_maps[1:], context.teacher_maps[1:], strict=False))
        self.predictors = nn.ModuleList(predictor(student[0], teacher[0]) for student, teacher in stages)
        initial = math.log(math.expm1(INITIAL_VARIANCE - EPS))
        self.raw_variances = nn.ParameterList(
            nn.Parameter(torch.full((teacher[0],), initial), requires_grad=learned_variances) for _, teacher in stages
        )

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_maps: list[Tensor],
        teacher_maps: list[Tensor],
    ) -> Tensor:
        stages = []
        pairs = zip(student_maps[1:], teacher_maps[1:], self.predictors, self.raw_variances, strict=False)
        for student_map, teacher_map, predict, raw_variance in pairs:
            student_map, teacher_map = at_smaller_size(student_map, teacher_map)
            stages.append(negative_log_likelihood(predict(student_map), teacher_map.detach(), raw_variance))
        return summed(stages)
