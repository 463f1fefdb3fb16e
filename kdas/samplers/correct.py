"""Views that the teacher gets right: only they are trained on, or distilled."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdas.samplers.interface import SAMPLERS, EpochPlan, SamplerContext, SamplerNeed
from kdas.samplers.scores import is_right
from kdas.samplers.subsets import Unselective, permutation


@SAMPLERS.register(
    "teacher_correct",
    source="Wen et al., 2019 (arXiv 1911.07471), on what wrong teachers teach; filter and weight are ours",
    needs=[SamplerNeed.TEACHER_LOGITS, SamplerNeed.TARGETS],
)
class TeacherCorrect(Unselective):
    """Every sample in a view that the teacher classifies as its label; the others are left out or weigh less."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        use: Annotated[
            Literal["filter", "weight"],
            Field(description="Whether other views are not trained on, or only distilled with wrong_weight."),
        ] = "filter",
        wrong_weight: Annotated[
            float, Field(ge=0, le=1, description="Weight of the distillation term where the teacher is wrong.")
        ] = 0.0,
    ) -> None:
        super().__init__(context)
        self.filters, self.wrong_weight = use == "filter", wrong_weight

    def plan(self, epoch: int) -> EpochPlan:
        order = permutation(self.context.num_samples, self.context.seed, "order", epoch)
        return EpochPlan(order, self.context.batch_size, rate=1.0, selects=self.filters)

    def select(self, epoch: int, indices: Tensor, *, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return is_right(teacher_logits, targets).nonzero().squeeze(1)

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        if self.filters:
            return None
        return torch.where(is_right(teacher_logits, targets) == 1, 1.0, self.wrong_weight)
