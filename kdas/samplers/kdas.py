"""Adaptive sampling: train on the samples that carry much good knowledge."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdas import schedules
from kdas.losses.divergence import kl_divergence
from kdas.penalty import Penalty, PenaltyFactor, PenaltyLambda, PenaltyWarmup, Threshold
from kdas.samplers.interface import SAMPLERS, EpochPlan, Rate, SamplerContext, SamplerNeed, ScoreMode
from kdas.samplers.remembered import Periods, RememberedSubset, WarmupEpochs
from kdas.samplers.subsets import Unselective

# Over a half, nothing might be left to train on.
Exclusion = Annotated[float, Field(ge=0, le=0.5, description="A fraction of each scoring batch; the paper uses 0.05.")]
ExclusionHold = Annotated[
    float, Field(ge=0, lt=1, description="The fraction of the epochs, in [0, 1), with full exclusion.")
]


def knowledge_scores(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How much the teacher still has to say: KL(teacher || student) at temperature 1.

    Args: student_logits, teacher_logits [B, C], raw (also when the loss standardises them).
    Returns: scores [B], in nats.
    """
    return kl_divergence(teacher_logits.log_softmax(dim=1), student_logits.log_softmax(dim=1))


def select(scores: Tensor, keep: int, exclusion_rate: float) -> Tensor:
    """The `keep` highest scores after the very highest are dropped as outliers.

    Args: scores [B]; exclusion_rate: fraction of the batch dropped from the top, rounded up.
    Returns: positions int64 [keep], highest score first; fewer where the batch has no more.
    Source: official release.
    """
    excluded = math.ceil(len(scores) * exclusion_rate)
    return scores.argsort(descending=True, stable=True)[excluded : excluded + keep]


class HighestScored(Unselective):
    """Trains on the highest scores of each batch in KDAS's rhythm; what a score is, is left to the sampler."""

    def __init__(
        self,
        context: SamplerContext,
        rhythm: RememberedSubset,
        exclusion_rate: float,
        exclusion_hold: float,
        score_mode: str,
    ) -> None:
        super().__init__(context)
        self.rhythm, self.score_mode = rhythm, score_mode
        self.exclusion_rate, self.exclusion_hold = exclusion_rate, exclusion_hold

    def plan(self, epoch: int) -> EpochPlan:
        return self.rhythm.plan(epoch, self.score_mode)

    def highest(self, epoch: int, indices: Tensor, scores: Tensor) -> Tensor:
        """Positions of the samples to train on, which are remembered. Args: indices, scores [B]."""
        if len(indices) < self.context.batch_size:  # the tail of the set is kept whole
            positions = torch.arange(len(indices), device=scores.device)
        else:
            excluded = schedules.exclusion_rate(epoch, self.context.epochs, self.exclusion_rate, self.exclusion_hold)
            positions = select(scores, self.context.batch_size, excluded)
        self.rhythm.remember(indices[positions])
        return positions

    def state_dict(self) -> dict[str, Any]:
        return self.rhythm.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rhythm.load_state_dict(state)


@SAMPLERS.register(
    "kdas", source="Chae & Heo, ICCV 2025", needs=[SamplerNeed.STUDENT_LOGITS, SamplerNeed.TEACHER_LOGITS]
)
class Kdas(HighestScored):
    """In sampling epochs trains on the highest-scored part of each batch, in the others on what those chose."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        start_rate: Rate = 0.6,
        end_rate: Rate = 0.4,
        sampling_period: Periods = (1, 3, 5, 10),
        exclusion_rate: Exclusion = 0.05,
        exclusion_hold: ExclusionHold = 0.625,
        penalty_factor: PenaltyFactor = 0.5,
        penalty_lambda: PenaltyLambda = 1000.0,
        penalty_warmup: PenaltyWarmup = 0,
        threshold: Threshold = 0.2,
        warmup_epochs: WarmupEpochs = 0,
        score_mode: ScoreMode = "eval",
    ) -> None:
        rhythm = RememberedSubset(context, start_rate, end_rate, sampling_period, warmup_epochs)
        super().__init__(context, rhythm, exclusion_rate, exclusion_hold, score_mode)
        self.penalty = Penalty(penalty_factor, penalty_lambda, penalty_warmup, threshold)

    def select(self, epoch: int, indices: Tensor, *, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:  # type: ignore[override]
        return self.highest(epoch, indices, knowledge_scores(student_logits, teacher_logits))

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return self.penalty.weights(epoch, teacher_logits, targets)
