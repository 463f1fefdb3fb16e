"""Knowledge review: each of the teacher's maps teaches the student's map of that stage and of all later ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed
from kdas.losses.maps import summed

POOLED_SIZES = (4, 2, 1)
MAX_MIDDLE_CHANNELS = 512


def hcl(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """Hierarchical context loss: mean squared difference of maps and of their average-pooled versions.

    The versions have size 4, 2 and 1, as far as that is smaller than the map. The map weighs 1, and each next version
    half of the one before. The weighted mean of a pair is summed over pairs.

    Args: student_maps, teacher_maps: of each stage, [B, C, H, W], with equal shapes.
    Returns: loss [B].
    Source: Chen et al., CVPR 2021, and their code.
    """
    stages = []
    for student_map, teacher_map in zip(student_maps, teacher_maps, strict=False):
        # Pooling is linear: it can be done once, on the difference.
        difference = student_map - teacher_map.detach()
        total, weight, weights = difference.square().mean(dim=(1, 2, 3)), 1.0, 1.0
        for size in POOLED_SIZES:
            if size < difference.shape[2]:
                weight /= 2
                weights += weight
                pooled = functional.adaptive_avg_pool2d(difference, size)
                total = total + weight * pooled.square().mean(dim=(1, 2, 3))
        stages.append(total / weights)
    return summed(stages)


class Fusion(nn.Module):
    """Attention-based fusion of a map with what comes from the stage after it.

    Args: channels of the student's map; middle_channels of what is handed on; teacher_channels; is_last: nothing comes
        from a later stage.
    """

    def __init__(self, channels: int, middle_channels: int, teacher_channels: int, is_last: bool) -> None:
        super().__init__()
        self.reduce = _convolved(channels, middle_channels, kernel_size=1)
        self.match = _convolved(middle_channels, teacher_channels, kernel_size=3)
        self.attention = None if is_last else nn.Conv2d(2 * middle_channels, 2, kernel_size=1)

    def forward(self, student_map: Tensor, later: Tensor | None, teacher_size: int) -> tuple[Tensor, Tensor]:
        """Args: student_map [B, C, H, H]; later [B, M, h, h], from the stage after it.

        Returns: the student's map in the teacher's shape [B, D, teacher_size, teacher_size], and what the stage before
        it gets, [B, M, teacher_size, teacher_size].
        """
        fused: Tensor = self.reduce(student_map)
        if self.attention is not None and later is not None:
            # As on both maps side by side. But that copies them, and the later one is smaller before it is resized.
            own_weight, later_weight = self.attention.weight.chunk(2, dim=1)
            seen = _resized(functional.conv2d(later, later_weight), fused.shape[2])
            seen = seen + functional.conv2d(fused, own_weight, self.attention.bias)
            own_share, later_share = seen.sigmoid().chunk(2, dim=1)
            fused = torch.addcmul(fused * own_share, _resized(later, fused.shape[2]), later_share)
        fused = _resized(fused, teacher_size)
        return self.match(fused), fused


def _convolved(channels: int, to_channels: int, kernel_size: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, to_channels, kernel_size, padding=kernel_size // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(to_channels))


def _resized(feature_map: Tensor, size: int) -> Tensor:
    """The map at [B, C, size, size], by its nearest values."""
    return feature_map if feature_map.shape[2] == size else functional.interpolate(feature_map, size, mode="nearest")


@LOSSES.register(
    "reviewkd",
    source="Chen et al., CVPR 2021",
    needs=[
        LossNeed.EPOCH,
        LossNeed.STUDENT_MAPS,
        LossNeed.STUDENT_FEATURES,
        LossNeed.TEACHER_PREACT_MAPS,
        LossNeed.TEACHER_FEATURES,
    ],
    usual={"ce_weight": 1.0, "kd_weight": 1.0},
)
class Review(nn.Module):
    """Knowledge review: maps of all stages and pooled features, fused from the last to the first."""

    def __init__(
        self,
        context: LossContext,
        *,
        warmup_epochs: Annotated[
            int, Field(ge=0, le=1_000_000, description="Epochs over which the loss ramps up; the paper uses 20.")
        ] = 20,
    ) -> None:
        super().__init__()
        self.warmup_epochs = warmup_epochs
        student = [*context.student_maps[1:], (context.student_width, 1, 1)]
        teacher = [*context.teacher_preact_maps[1:], (context.teacher_width, 1, 1)]
        middle_channels = min(MAX_MIDDLE_CHANNELS, context.student_width)
        # From the last stage to the first; of models with different numbers of stages, the last ones are compared.
        self.fusions = nn.ModuleList(
            Fusion(channels, middle_channels, teacher_channels, is_last=number == 0)
            for number, ((channels, *_), (teacher_channels, *_)) in enumerate(
                zip(student[::-1], teacher[::-1], strict=False)
            )
        )

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        epoch: int,
        student_maps: list[Tensor],
        student_features: Tensor,
        teacher_preact_maps: list[Tensor],
        teacher_features: Tensor,
    ) -> Tensor:
        student = [*student_maps[1:], student_features[:, :, None, None]]
        teacher = [*teacher_preact_maps[1:], teacher_features[:, :, None, None]]
        from_the_last = list(zip(self.fusions, student[::-1], teacher[::-1], strict=False))
        matched, later = [], None
        for fusion, student_map, teacher_map in from_the_last:
            output, later = fusion(student_map, later, teacher_map.shape[2])
            matched.append(output)
        ramp = min(epoch / self.warmup_epochs, 1.0) if self.warmup_epochs else 1.0
        return ramp * hcl(matched, [teacher_map for _, _, teacher_map in from_the_last])
