"""FitNets: the student's map, after a convolution that gives it the teacher's shape, equals the teacher's."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from kdas.errors import UserError
from kdas.losses.interface import LOSSES, LossContext, LossNeed, MapShape


def regressor(student_shape: MapShape, teacher_shape: MapShape) -> nn.Sequential:
    """A convolution with batch norm and ReLU from maps of one shape to maps of another.

    Twice the teacher's size: 3x3 with stride 2. Half of it: transposed, 4x4 with stride 2. Otherwise the kernel that
    leaves, or for a smaller student fills, the teacher's size without padding; 1x1 for equal sizes.

    Args: student_shape, teacher_shape: (C, H, W).
    Source: Romero et al., ICLR 2015; sizes as in the benchmark code of Tian et al., ICLR 2020, which refuses a student
        whose map is smaller than, and not half of, the teacher's.
    """
    (channels, height, width), (teacher_channels, teacher_height, teacher_width) = student_shape, teacher_shape
    convolution: nn.Module
    if height == 2 * teacher_height:
        convolution = nn.Conv2d(channels, teacher_channels, kernel_size=3, stride=2, padding=1)
    elif 2 * height == teacher_height:
        convolution = nn.ConvTranspose2d(channels, teacher_channels, kernel_size=4, stride=2, padding=1)
    elif height >= teacher_height:
        kernel = (1 + height - teacher_height, 1 + width - teacher_width)
        convolution = nn.Conv2d(channels, teacher_channels, kernel)
    else:
        kernel = (1 + teacher_height - height, 1 + teacher_width - width)
        convolution = nn.ConvTranspose2d(channels, teacher_channels, kernel)
    return nn.Sequential(convolution, nn.BatchNorm2d(teacher_channels), nn.ReLU())


@LOSSES.register(
    "fitnet",
    source="Romero et al., ICLR 2015",
    needs=[LossNeed.STUDENT_MAPS, LossNeed.TEACHER_MAPS],
    usual={"ce_weight": 1.0, "kd_weight": 100.0},
)
class FitNet(nn.Module):
    """Hints: mean squared difference of one map after a learned regressor."""

    def __init__(
        self,
        context: LossContext,
        *,
        layer: Annotated[
            int, Field(ge=0, le=1000, description="Number of the map: 0 is the stem's, 1 the first stage's.")
        ] = 2,
    ) -> None:
        super().__init__()
        num_maps = min(len(context.student_maps), len(context.teacher_maps))
        if layer >= num_maps:
            raise UserError(
                f"loss fitnet: layer: expected a value in [0, {num_maps - 1}], got {layer}. Student and teacher both"
                f" have {num_maps} maps: the stem's, and one for each stage."
            )
        self.layer = layer
        self.regressor = regressor(context.student_maps[layer], context.teacher_maps[layer])

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        student_maps: list[Tensor],
        teacher_maps: list[Tensor],
    ) -> Tensor:
        difference = self.regressor(student_maps[self.layer]) - teacher_maps[self.layer].detach()
        loss: Tensor = difference.square().mean(dim=(1, 2, 3))
        return loss
