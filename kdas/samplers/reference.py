"""Samples that a plainly distilled student shows to be learnable: AdaSPEC's filter, for images."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from kdas.parts.paths import LOCAL_FILE
from kdas.samplers.interface import SAMPLERS, EpochPlan, SamplerContext, SamplerNeed, ScoreMode
from kdas.samplers.kdas import knowledge_scores
from kdas.samplers.subsets import Unselective, permutation


@SAMPLERS.register(
    "reference_gap",
    source="Hu et al., NeurIPS 2025 (AdaSPEC, arXiv 2510.19779)",
    needs=[SamplerNeed.STUDENT_LOGITS, SamplerNeed.TEACHER_LOGITS, SamplerNeed.REFERENCE_LOGITS],
)
class ReferenceGap(Unselective):
    """The part of each batch on which the student is furthest behind a reference, a kept student of plain KD."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        reference: Annotated[
            str,
            LOCAL_FILE,
            Field(
                min_length=1,
                description="Weights of a student like this one: the folder of a kept student, or a checkpoint.",
            ),
        ],
        rate: Annotated[
            float, Field(gt=0, le=1, description="Fraction of each fetched batch that is trained on; AdaSPEC uses 0.4.")
        ] = 0.4,
        score_mode: ScoreMode = "eval",
    ) -> None:
        super().__init__(context)
        self.rate, self.score_mode = rate, score_mode

    def plan(self, epoch: int) -> EpochPlan:
        context = self.context
        order = permutation(context.num_samples, context.seed, "order", epoch)
        fetched = math.ceil(context.batch_size / self.rate)
        return EpochPlan(order, fetched, self.rate, selects=True, score_mode=self.score_mode)

    def select(
        self, epoch: int, indices: Tensor, *, student_logits: Tensor, teacher_logits: Tensor, reference_logits: Tensor
    ) -> Tensor:
        gaps = knowledge_scores(student_logits, teacher_logits) - knowledge_scores(reference_logits, teacher_logits)
        keep = min(self.context.batch_size, math.ceil(self.rate * len(indices)))
        return gaps.argsort(descending=True, stable=True)[:keep]
