"""Adaptive sampling: trains on the samples that carry most knowledge, weighted by its quality."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdas import schedules
from kdas.losses.divergence import kl_divergence
from kdas.penalty import Penalty, PenaltyFactor, PenaltyLambda, PenaltyWarmup, Threshold
from kdas.samplers.interface import SAMPLERS, EpochPlan, Rate, SamplerContext, SamplerNeed, ScoreMode
from kdas.samplers.remembered import Periods, RememberedSubset, WarmupEpochs

# Above a half, no sample might be left to train on.
Exclusion = Annotated[
    float,
    Field(
        ge=0,
        le=0.5,
        description="Fraction of each scoring batch dropped as outliers; the paper uses 0.05.",
    ),
]
ExclusionHold = Annotated[float, Field(ge=0, lt=1, description="Fraction of the epochs with full exclusion.")]


def knowledge_scores(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """How much the teacher still has to tell the student: KL(teacher || student) at temperature 1.

    Args: student_logits, teacher_logits [B, C], raw (also when the loss standardises them).
    Returns: scores [B], in nats.
    """
    return kl_divergence(teacher_logits.log_softmax(dim=1), student_logits.log_softmax(dim=1))


def select(scores: Tensor, keep: int, exclusion_rate: float) -> Tensor:
    """The `keep` highest scores, after the very highest have been dropped as outliers.

    Args: scores [B]; exclusion_rate: fraction of the batch dropped from the top, rounded up.
    Returns: positions int64 [keep], highest score first; fewer if the batch is too small.
    Source: official release.
    """
    excluded = math.ceil(len(scores) * exclusion_rate)
    return scores.argsort(descending=True, stable=True)[excluded : excluded + keep]


@dataclass(frozen=True)
class HighestScored:
    """The highest scores of each batch, without the outliers that the epoch's schedule drops from the top."""

    context: SamplerContext
    exclusion_rate: float
    exclusion_hold: float

    def positions(self, epoch: int, scores: Tensor) -> Tensor:
        """Positions int64 [keep] of the samples to train on. Args: epoch, counted from 1; scores [B]."""
        if len(scores) < self.context.batch_size:  # the tail of the set is kept whole
            return torch.arange(len(scores), device=scores.device)
        excluded = schedules.exclusion_rate(epoch, self.context.epochs, self.exclusion_rate, self.exclusion_hold)
        return select(scores, self.context.batch_size, excluded)


@SAMPLERS.register(
    "kdas", source="Chae & Heo, ICCV 2025", needs=[SamplerNeed.STUDENT_LOGITS, SamplerNeed.TEACHER_LOGITS]
)
class Kdas:
    """In sampling epochs, trains on the highest-scored part of each batch; in other epochs, on those samples again."""

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
        self.rhythm = RememberedSubset(context, start_rate, end_rate, sampling_period, warmup_epochs, score_mode)
        self.choice = HighestScored(context, exclusion_rate, exclusion_hold)
        self.penalty = Penalty(penalty_factor, penalty_lambda, penalty_warmup, threshold)

    def plan(self, epoch: int) -> EpochPlan:
        return self.rhythm.plan(epoch)

    def select(self, epoch: int, indices: Tensor, *, student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        positions = self.choice.positions(epoch, knowledge_scores(student_logits, teacher_logits))
        self.rhythm.remember(indices[positions])
        return positions

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return self.penalty.weights(epoch, teacher_logits, targets)

    def state_dict(self) -> dict[str, Any]:
        return self.rhythm.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rhythm.load_state_dict(state)
