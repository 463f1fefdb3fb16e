"""Adaptive sampling: train on the samples that carry much good knowledge."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from kdas import schedules, seeding
from kdas.losses.divergence import kl_divergence
from kdas.penalty import penalty_weights
from kdas.samplers.plugin import SAMPLERS, EpochPlan, Rate, SamplerContext
from kdas.samplers.subsets import permutation

Period = Annotated[int, Field(ge=1, description="A period is a whole number of epochs; the paper uses 1, 3, 5, 10.")]
# One period and a list of one are the same setting, so they are written the same.
Periods = Annotated[
    tuple[Period, ...],
    BeforeValidator(lambda given: (given,) if type(given) is int else given),
    Field(min_length=1),
]
# Over a half, nothing might be left to train on.
Exclusion = Annotated[float, Field(ge=0, le=0.5, description="A fraction of each scoring batch; the paper uses 0.05.")]


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


@SAMPLERS.register("kdas", source="Chae & Heo, ICCV 2025")
class Kdas:
    """In sampling epochs trains on the highest-scored part of each batch, in the others on what those chose."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        start_rate: Rate = 0.6,
        end_rate: Rate = 0.4,
        sampling_period: Periods = (1, 3, 5, 10),
        exclusion_rate: Exclusion = 0.05,
        exclusion_hold: Annotated[
            float, Field(ge=0, lt=1, description="The fraction of the epochs, in [0, 1), with full exclusion.")
        ] = 0.625,
        penalty_factor: Annotated[float, Field(ge=0, le=1, description="The least weight, in [0, 1].")] = 0.5,
        penalty_lambda: Annotated[
            float, Field(ge=0, description="Weight lost per nat; 0 switches the penalty off.")
        ] = 1000.0,
        penalty_warmup: Annotated[int, Field(ge=0, description="Epochs over which the penalty sets in.")] = 0,
        threshold: Annotated[
            float, Field(gt=0, lt=0.5, description="A threshold is a quantile in (0, 0.5); the paper uses 0.2.")
        ] = 0.2,
        warmup_epochs: Annotated[int, Field(ge=0, description="Epochs on the full set before sampling.")] = 0,
    ) -> None:
        self.context = context
        self.start_rate, self.end_rate = start_rate, end_rate
        self.sampling_period = sampling_period
        self.exclusion_rate, self.exclusion_hold = exclusion_rate, exclusion_hold
        self.penalty_factor, self.penalty_lambda = penalty_factor, penalty_lambda
        self.penalty_warmup, self.threshold = penalty_warmup, threshold
        self.warmup_epochs = warmup_epochs
        self._chosen: list[Tensor] = []

    def plan(self, epoch: int) -> EpochPlan:
        context = self.context
        rate = schedules.sampling_rate(epoch, context.epochs, self.start_rate, self.end_rate, self.warmup_epochs)
        if epoch <= self.warmup_epochs:
            return EpochPlan(self._shuffled_set(epoch), context.batch_size, rate)
        if schedules.is_sampling_epoch(epoch, context.epochs, self.sampling_period, self.warmup_epochs):
            self._chosen = []
            return EpochPlan(self._shuffled_set(epoch), math.ceil(context.batch_size / rate), rate, selects=True)
        remembered = torch.cat(self._chosen).unique()  # type: ignore[no-untyped-call]
        shuffle = torch.randperm(len(remembered), generator=seeding.generator(context.seed, "cached order", epoch))
        return EpochPlan(remembered[shuffle], context.batch_size, rate)

    def select(self, epoch: int, student_logits: Tensor, teacher_logits: Tensor, indices: Tensor) -> Tensor:
        if len(indices) < self.context.batch_size:  # the tail of the set is kept whole
            positions = torch.arange(len(indices), device=student_logits.device)
        else:
            excluded = schedules.exclusion_rate(epoch, self.context.epochs, self.exclusion_rate, self.exclusion_hold)
            scores = knowledge_scores(student_logits, teacher_logits)
            positions = select(scores, self.context.batch_size, excluded)
        self._chosen.append(indices[positions.to(indices.device)])
        return positions

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        strength = schedules.penalty_lambda(epoch, self.penalty_lambda, self.penalty_warmup)
        if strength == 0:
            return None
        return penalty_weights(teacher_logits, targets, self.threshold, strength, self.penalty_factor)

    def state_dict(self) -> dict[str, Any]:
        return {"chosen": torch.cat(self._chosen) if self._chosen else torch.empty(0, dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._chosen = [state["chosen"]]

    def _shuffled_set(self, epoch: int) -> Tensor:
        return permutation(self.context.num_samples, self.context.seed, "order", epoch)
